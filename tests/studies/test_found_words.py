"""What studies say follows their numbers, and turns round where these do."""

import pytest

from resnets.studies import gradient_paths, landscape, lesion
from resnets.studies.lesion import rank_correlation


def lesioned(name: str, errors: list[float], *, plain: bool = False, several=(), moved=()) -> dict:
    return {
        "name": name,
        "plain": plain,
        "depth": 20,
        "images": 1000,
        "error": 0.1,
        "guessing": 0.9,
        "dropped": [{"block": f"layer1.{i}", "error": e} for i, e in enumerate(errors)],
        "deleted": [{"blocks": k, "error": e} for k, e in several],
        "reordered": [{"tau": tau, "error": e} for tau, e in moved],
    }


def test_sentences_of_lesions():
    net = lesioned(
        "resnet20",
        [0.11, 0.1, 0.3],
        several=[(1, 0.1), (1, 0.2), (2, 0.3), (3, 0.4)],
        moved=[(1, 0.1), (0.8, 0.2), (0.4, 0.6)],
    )
    plain = lesioned("plain20", [0.9, 0.8, None], plain=True)
    beside, own, several, moved, last = lesion.found([net, plain])
    assert "resnet20 1.0 points in the median, and plain20" in beside
    assert beside.endswith("75.0: as the paper found.")
    assert own.startswith("resnet20: 10.0 % of 1,000 images are wrong; without one of its blocks")
    assert "11.0 % in the median, at worst 30.0 %, without layer1.2. Guessing: 90.0 %." in own
    assert own.endswith("hardly missed, as the paper found of 54.")
    assert several.startswith("resnet20 without 1 of its 3 blocks: 15.0 % in the median; the error")
    assert "rises with the number of blocks deleted (rank correlation 0.95), as the" in several
    assert moved.startswith("resnet20: the error rises with how far the order of blocks is from")
    assert "(rank correlation 1.00), as the paper found" in moved
    assert "85.0 % in the median, at worst 90.0 %, without layer1.0" in last
    net["dropped"] = [{"block": "a", "error": 0.95}]
    net["deleted"] = [{"blocks": k, "error": e} for k, e in ((1, 0.4), (2, 0.5), (3, 0.1))]
    beside, own, several, *_ = lesion.found([net, plain])
    assert beside.endswith("contrary to what the paper found.")
    assert "missed more than the 54" in own
    assert "hardly rises with the number of blocks deleted" in several
    assert several.endswith("not as the paper found.")
    net["dropped"], whole = plain["dropped"], net["dropped"]
    assert lesion.found([net, plain])[0].endswith("the same, where the paper found less.")
    net["dropped"] = whole
    plain["dropped"], plain["deleted"] = plain["dropped"][2:], []
    assert lesion.found([net, plain])[-1].endswith("none of its blocks can be left out.")


def test_a_net_that_guesses_is_not_judged_by_its_blocks():
    plain = lesioned("plain20", [0.9, 0.9], plain=True) | {"error": 0.89}
    own, other = lesion.found([lesioned("resnet20", [0.5], several=[(1, 0.5)]), plain])[
        :1
    ] + lesion.found([plain])
    assert own.startswith("resnet20: 10.0 % of")  # beside which the plain net is not put
    assert other.endswith("are wrong, as by guessing: it has nothing to lose without a block.")


def test_rank_correlation():
    assert rank_correlation([1, 2, 3], [0.1, 5, 7]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # Spearman with ties: ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4.
    assert rank_correlation([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486832980505138)
    assert rank_correlation([1, 1], [1, 2]) is None


def test_sentences_of_paths():
    net = {
        "name": "resnet56",
        "blocks": 3,
        "fall": 0.25,
        "contribution": [0.5, 0.3, 0.15, 0.05],
        "effective": [0, 2],
        "effective_paths": 7 / 8,
        "agreement": 0.98765,
    }
    blocks, factor, effective = gradient_paths.found(net)
    assert blocks == "resnet56: 3 blocks make 8 paths, on average through 1.5 branches."
    assert "carries by 0.25" in factor
    assert "0.8 branches on average: less, as the paper found" in factor
    assert "95 % of the contribution comes by paths of 0 to 2 branches, 87.50 %" in effective
    assert "cosine of 0.988" in effective
    assert gradient_paths.found({**net, "blocks": 1})[0].startswith("resnet56: 1 block makes 2 ")
    assert "600 blocks make 2^600 paths" in gradient_paths.found({**net, "blocks": 600})[0]
    net["contribution"] = [0.05, 0.15, 0.3, 0.5]
    assert "2.2 branches on average: no less, unlike in the paper" in gradient_paths.found(net)[1]


def test_sentences_of_landscapes():
    def net(name: str, plain: bool, below: float, convex: float) -> dict:
        return {
            "name": name,
            "plain": plain,
            "depth": 56,
            "centre": 0.05,
            "guessing": 2.302585,
            "below_guessing": below,
            "convex": convex,
        }

    own, plain = net("resnet56", False, 0.2, 0.7), net("plain56", True, 0.1, 0.8)
    first, second, both = landscape.found([plain, own])
    assert first.startswith("plain56: a loss of 0.05 in the middle")
    assert "less than that of guessing (2.3) at 20.0 % of the points" in second
    assert both.startswith("Of 56 layers, with shortcuts (resnet56) 70.0 % of the square bends")
    assert "without (plain56) 80.0 %: no smoother with shortcuts, contrary to what the" in both
    plain["convex"] = 0.3
    assert "smoother with shortcuts, as the paper found" in landscape.found([own, plain])[-1]
    plain["convex"] = own["convex"]
    own["depth"] = plain["depth"] = 20
    assert (
        "no smoother with shortcuts, where the paper found little"
        in landscape.found([own, plain])[-1]
    )
    assert len(landscape.found([own])) == 1
