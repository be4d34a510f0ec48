"""AdapterHub's bottlenecks: y = k + s (U g(D z + b_d) + b_u), h what a block puts out and r what goes around it.

z is h; or h + r behind the norm that the model has there, if it has one; or r (`is_parallel`). k is h, or what is read.
D and U are matrices, or sums of Kronecker products (PHM, and with rules that all share, Compacter).
"""
