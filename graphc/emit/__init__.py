"""From a schedule to C: what kernels are in C, which memory and threads they have, and the templates that hold the text."""
