"""The first circuit of every lecture, f = (x + y) * z: its value, its gradient, and its second derivatives."""

import graphc as gx

x, y, z = gx.input("x"), gx.input("y"), gx.input("z")
f = (x + y) * z  # nothing is computed here: f is a graph

# Gradients are graphs too. By the chain rule df/dx = z, df/dy = z, df/dz = x + y.
df = gx.grad(f, [x, y, z])

# So they can be differentiated again: row i of the Hessian is the gradient of df[i].
hessian = [gx.grad(slope, [x, y, z]) for slope in df]

# One C function computes all of it; what they have in common is computed once.
circuit = gx.compile([x, y, z], [f, *df, *hessian[0], *hessian[1], *hessian[2]], name="circuit")

if __name__ == "__main__":
    value, dx, dy, dz, *second = circuit(-2, 5, -4)
    print(f"f = {value:g}")
    print(f"df/dx = {dx:g}, df/dy = {dy:g}, df/dz = {dz:g}")
    print("second derivatives:")
    for row in range(3):
        print("   ".join(f"{entry:4g}" for entry in second[3 * row : 3 * row + 3]))
    print(f"the C is in {circuit.library.with_suffix('.c')}")
