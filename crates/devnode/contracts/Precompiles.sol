// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.30;

/// Calls precompiles and keeps a digest of what they answered.
contract Precompiles {
    bytes32 public last;

    event Called(address indexed precompile, bytes output);

    /// Calls `precompile` with `input`; reverts if it fails or answers nothing.
    function use(address precompile, bytes calldata input) external {
        (bool ok, bytes memory output) = precompile.staticcall(input);
        require(ok && output.length > 0, "precompile refused its input");
        last = keccak256(abi.encode(last, output));
        emit Called(precompile, output);
    }
}
