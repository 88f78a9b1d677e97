"""Published accuracies, in percent, of the baseline: dataset condensation (DC).

Dataset Condensation with Gradient Matching (Zhao, Mopuri & Bilen, ICLR 2021, arXiv 2006.05929),
ConvNet, test accuracy; as quoted in the comparison table of arXiv 2107.13034 (Nguyen et al. 2021).
They are of the full data sets: `mnist5k` is a fifteenth of MNIST, and has no published number.
"""

DC = {
    "mnist, 1": "91.7 ± 0.5",
    "mnist, 10": "97.4 ± 0.2",
    "mnist, 50": "98.8 ± 0.1",
    "fashion_mnist, 1": "70.5 ± 0.6",
    "fashion_mnist, 10": "82.3 ± 0.4",
    "fashion_mnist, 50": "83.6 ± 0.4",
    "svhn_cropped, 1": "31.2 ± 1.4",
    "svhn_cropped, 10": "76.1 ± 0.6",
    "svhn_cropped, 50": "82.3 ± 0.3",
    "cifar10, 1": "28.3 ± 0.5",
    "cifar10, 10": "44.9 ± 0.5",
    "cifar10, 50": "53.9 ± 0.5",
    "cifar100, 1": "12.8 ± 0.3",
}
"""By `data set, images of each class`."""
