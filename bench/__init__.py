"""What is claimed is measured here, beside a peer where there is one, in one run: `make bench`."""
