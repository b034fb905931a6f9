"""Certificates: what no perturbation within a bound can change, proved rather than tried."""
