"""How the detector's weights are learned: drawn workloads with labelled incidents, and the fit (`python -m`)."""
