"""HDF5 as Keras writes it, read in Python with every bound checked: h5py crashes on damage."""
