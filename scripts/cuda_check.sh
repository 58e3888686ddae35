#!/bin/bash
# Compiles RISC Zero's code for GPUs of NVIDIA on a machine without one, with the compiler from NVIDIA's Python packages, which are
# installed into FOLDER: about 400 MB. By default the part that all circuits share (the crate risc0-sys), which takes some minutes; with
# `all` everything that `l2-prover-risc0` needs, hours on two cores, up to the link with a stand-in for the driver.
#
#   [ARCH=sm_89] scripts/cuda_check.sh FOLDER [all]
set -euo pipefail

folder=${1:?usage: $0 FOLDER [all]}
what=${2:-shared}
mkdir -p "$folder"
folder=$(realpath "$folder")
cd "$(dirname "$0")/.."

python=$folder/python
if [ ! -d "$python" ]; then
    python3 -m pip install --quiet --disable-pip-version-check --target "$python.new" \
        nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
    mv "$python.new" "$python"
fi
toolkit=$(dirname "$(dirname "$(find "$python" -path '*/bin/nvcc')")")
[ -n "$toolkit" ] || { echo "the packages hold no nvcc" >&2; exit 1; }
chmod +x "$toolkit"/bin/* "$toolkit"/nvvm/bin/*

# The packages have the libraries under their full names only, and not the driver's, which comes with a card.
ln -sfn lib "$toolkit/lib64"
runtime=$(basename "$(find "$toolkit/lib" -name 'libcudart.so.*' | head -n 1)")
ln -sf "$runtime" "$toolkit/lib/libcudart.so"
mkdir -p "$toolkit/lib/stubs"
# What of the driver the circuits call: a stand-in for it, which fails, is enough to link with.
for function in CtxSetCurrent DeviceGet DeviceGetAttribute DevicePrimaryCtxRelease_v2 DevicePrimaryCtxRetain DevicePrimaryCtxSetFlags_v2 \
    GetErrorString Init MemAlloc_v2 MemFree_v2 MemcpyDtoH_v2 MemcpyHtoD_v2 MemsetD32_v2; do
    echo "int cu$function(void) { return 100; }"
done | cc -shared -o "$toolkit/lib/stubs/libcuda.so" -Wl,-soname,libcuda.so.1 -x c -
ln -sf stubs/libcuda.so "$toolkit/lib/libcuda.so"

export PATH=$toolkit/bin:$PATH
export CUDA_PATH=$toolkit CUDA_ROOT=$toolkit CUDA_LIBRARY_PATH=$toolkit
export NVCC_APPEND_FLAGS="-arch=${ARCH:-sm_89} -std=c++17"
# Its own folder: what is built here is of no use elsewhere.
export CARGO_TARGET_DIR=$folder/target
nvcc --version | tail -n 2

if [ "$what" = all ]; then
    cargo build --locked --release -p l2 --features cuda --bin l2-prover-risc0
    echo "l2-prover-risc0 is built and linked for ${ARCH:-sm_89}; without a card it was not run"
    exit
fi
# A package that needs nothing but the shared part, in the versions of our lock file.
version=$(sed -n '/^name = "risc0-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
mkdir -p "$folder/shared/src"
cp Cargo.lock "$folder/shared/Cargo.lock"
: >"$folder/shared/src/lib.rs"
cat >"$folder/shared/Cargo.toml" <<TOML
[package]
name = "cuda-check"
version = "0.0.0"
edition = "2024"
[dependencies]
risc0-sys = { version = "=$version", features = ["cuda"] }
[workspace]
TOML
cargo build --release --manifest-path "$folder/shared/Cargo.toml"
library=$(find "$CARGO_TARGET_DIR/release/build" -name 'librisc0_zkp_cuda.a' | head -n 1)
kernels=$(nm -C "$library" 2>/dev/null | grep -c ' T ' || true)
echo "risc0-sys $version is compiled for ${ARCH:-sm_89}: $kernels functions in $(basename "$library")"
[ "$kernels" -gt 0 ]
