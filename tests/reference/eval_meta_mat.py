"""Writes a small `meta.mat` of the shape of ILSVRC2012_devkit_t12, as tests/fixtures/eval_meta{,_plain}.mat.

Needs scipy 1.x. Run from the repository root.
"""

import numpy as np
from scipy.io import savemat

FIELDS = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
ROWS = [(1, "n02119789", "kit fox", 0), (300, "n02100735", "English setter", 0), (1000, "n02110185", "husky", 2)]

synsets = np.zeros((len(ROWS), 1), dtype=FIELDS)
for i, (number, wnid, words, children) in enumerate(ROWS):
    synsets[i, 0] = (np.float64(number), wnid, words, np.float64(children))

savemat("tests/fixtures/eval_meta.mat", {"other": np.arange(3), "synsets": synsets}, do_compression=True)
savemat("tests/fixtures/eval_meta_plain.mat", {"synsets": synsets}, do_compression=False)
