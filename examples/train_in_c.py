"""Training without Python: graphc writes the C of a train step, a C program of your own calls it, and both fit the same line."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import graphc as gx

slope, offset = gx.parameter("slope", 0.0), gx.parameter("offset", 0.0)
x, y = gx.input("x", (4,)), gx.input("y", (4,))
step = gx.train_step(gx.mean((slope * x + offset - y) ** 2), gx.optim.SGD(learning_rate=0.1), name="line")

MAIN = """
#include <stdio.h>
#include "line.h"

int main(void)
{
    static char memory[line_ARENA_BYTES + 64]; /* all that a step needs besides its arguments; here nothing */
    const float x[4] = {0, 1, 2, 3}, y[4] = {1, 3, 5, 7};
    float slope = 0, offset = 0, loss;
    line_args args = {.x = x, .y = y, .slope = &slope, .offset = &offset, .loss = &loss, .threads = 1};
    args.arena = memory + (64 - (uintptr_t)memory % 64) % 64;
    for (int i = 0; i < 300; ++i)
        if (line(&args) != 0) return 1;
    printf("%.5f x + %.5f\\n", slope, offset);
    return 0;
}
"""

if __name__ == "__main__":
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    command = [compiler] if compiler else [sys.executable, "-m", "ziglang", "cc"]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {"line.h": step.c_header, "line.c": step.c_source, "main.c": MAIN}.items():
            (Path(folder) / name).write_text(text)
        subprocess.run([*command, "-std=c99", "-O2", "line.c", "main.c", "-lm", "-o", "line"], cwd=folder, check=True)
        print("in C:     ", subprocess.run([Path(folder) / "line"], check=True, capture_output=True, text=True).stdout.strip())
    for _ in range(300):
        step(x=[0, 1, 2, 3], y=[1, 3, 5, 7])
    print(f"in Python: {slope.value:.5f} x + {offset.value:.5f}")
