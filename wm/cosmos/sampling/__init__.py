"""Drawing video from Cosmos models: solvers and sampling loops."""
