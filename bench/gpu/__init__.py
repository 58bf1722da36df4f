"""What only a machine with CUDA can show, in one command: ``python -m bench.gpu`` from the root of a checkout.

It needs PyTorch, NumPy and pyarrow and nothing else: no installation of this project, no network. Each part runs in a
process of its own, because an error in a CUDA kernel spoils the process that met it.
"""
