"""Groups of samples: who stays together, and how near the held-out split comes to its share."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnets.data.copies import together
from resnets.data.dataset import Dataset, MemoryImages, Split, whole
from resnets.data.holdout import divide, hold_out
from resnets.errors import DataError


def split_of(labels: list[int]) -> Split:
    pixels = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)
    return whole(MemoryImages(pixels), torch.tensor(labels))


def dataset_of(labels: list[int], groups: list[int]) -> Dataset:
    column = np.array(groups)
    return Dataset(
        name="x",
        classes=tuple(map(str, range(max(labels) + 1))),
        train=split_of(labels),
        validation=None,
        test=None,
        fingerprint="0",
        mirror=True,
        originals=torch.from_numpy(together(column)),
        groups=torch.from_numpy(column),
    )


def components(*columns: list[int]) -> list[int]:
    """The first that each stays together with, by asking for all pairs again and again."""
    first = [*range(len(columns[0]))]
    changed = True
    while changed:
        changed = False
        for column in columns:
            for i, one in enumerate(column):
                for j, other in enumerate(column):
                    if one == other >= 0 and first[j] > first[i]:
                        first[j], changed = first[i], True
    return first


columns = st.integers(1, 14).flatmap(
    lambda n: st.lists(st.lists(st.integers(-1, 6), min_size=n, max_size=n), min_size=1, max_size=3)
)


@given(columns)
def test_who_stays_together(found):
    arrays = [np.array(column) for column in found]
    assert together(*arrays, None).tolist() == components(*found)


samples = st.integers(12, 80).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 2), min_size=n, max_size=n),
        st.lists(st.integers(-1, 15), min_size=n, max_size=n),
    )
)


@given(samples, st.sampled_from([0.1, 0.2, 0.3, 0.5]), st.integers(0, 3))
def test_no_group_is_divided_and_sizes_are_near(found, amount, seed):
    labels, groups = found
    data = dataset_of(labels, groups)
    sizes = np.bincount(labels)
    # What is asked of each class, by largest remainders.
    count = round(amount * len(labels))
    exact = sizes * count / sizes.sum()
    shares = np.floor(exact).astype(int)
    for place in np.argsort(-(exact - shares), kind="stable")[: count - shares.sum()]:
        shares[place] += 1
    try:
        divided = divide(data, amount, seed)
    except DataError:
        alone = [members for members in _members(groups) if _fits(labels, members, sizes)]
        assert not alone or (shares >= sizes)[sizes > 0].any()
        return
    held = divided.validation.ids.tolist()
    assert sorted([*held, *divided.train.ids.tolist()]) == [*range(len(labels))]
    assert held
    both = {groups[i] for i in held} & {groups[i] for i in divided.train.ids.tolist()}
    assert both <= {-1}
    taken = np.bincount([labels[i] for i in held], minlength=len(sizes))
    assert (taken < sizes)[sizes > 0].all()

    def distance(chosen: set[int]) -> int:
        return np.abs(np.bincount([labels[i] for i in chosen], minlength=len(sizes)) - shares).sum()

    for members in _members(groups):
        other = set(held) ^ set(members)
        now = np.bincount([labels[i] for i in other], minlength=len(sizes))
        if other and (now < sizes)[sizes > 0].all():
            assert distance(other) >= distance(set(held)), members
    again = divide(data, amount, seed)
    assert torch.equal(again.validation.ids, divided.validation.ids)


def _members(groups: list[int]) -> list[list[int]]:
    found: dict[object, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(group if group >= 0 else f"alone {i}", []).append(i)
    return [*found.values()]


def _fits(labels: list[int], members: list[int], sizes: np.ndarray) -> bool:
    """Whether holding these out leaves something of each class."""
    taken = np.bincount([labels[i] for i in members], minlength=len(sizes))
    return bool((taken < sizes)[sizes > 0].all())


def test_patients_with_many_images_meet_the_shares():
    """200 patients of 1 to 30 images, three classes of 1 : 2 : 7, of which a patient has some."""
    drawn = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), drawn.integers(1, 31, 200))
    labels = drawn.choice(3, len(groups), p=(0.1, 0.2, 0.7))
    seen = set()
    for seed in range(5):
        divided = divide(dataset_of(labels.tolist(), groups.tolist()), 0.2, seed)
        held = divided.validation
        for label in range(3):
            share = 0.2 * (labels == label).sum()
            assert abs(int((held.labels == label).sum()) - share) <= 3
        seen.add(tuple(held.ids.tolist()))
    assert len(seen) == 5


def test_one_large_group_is_held_out_rather_than_none():
    data = dataset_of([0, 1] * 20, [0] * 10 + [1] * 10 + [2] * 12 + [3] * 8)
    held = divide(data, 0.05, 0).validation
    assert held.ids.tolist() == [*range(32, 40)]


def test_nothing_is_left_to_hold_out():
    with pytest.raises(DataError, match="each group has all that there is of a class"):
        divide(dataset_of([0] * 10 + [1] * 10, [0] * 10 + [1] * 10), 0.2, 0)


def test_a_split_without_groups_is_what_it_was():
    data = dataset_of([0, 1] * 30, [-1] * 60)
    plain = hold_out(data.train, 0.2, 3)[1]
    assert torch.equal(divide(data, 0.2, 3).validation.ids, plain.ids)
    assert torch.equal(divide(replace(data, groups=None), 0.2, 3).validation.ids, plain.ids)
