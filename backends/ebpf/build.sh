#!/bin/sh
# Compiles the program, and what tests need beside it, into a folder (here, if none is named). The objects are committed; a
# test builds them again and compares the bytes. They depend on the compiler and on headers, so all are those of Debian 12:
# clang-14, llvm-14, linux-libc-dev 6.1, libbpf-dev 1.1.
set -eu
out=${1:-$(dirname "$0")}
out=$(cd "$out" && pwd)
cd "$(dirname "$0")"
for name in partywall test; do
  "${CLANG:-clang-14}" -target bpf -mcpu=v3 -O2 -g -Wall -Werror -fdebug-compilation-dir=. \
    -isystem "/usr/include/$(uname -m)-linux-gnu" -c "$name.bpf.c" -o "$out/$name.bpf.o"
  "${LLVM_STRIP:-llvm-strip-14}" -g "$out/$name.bpf.o"
done
