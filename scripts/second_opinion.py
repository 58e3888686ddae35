#!/usr/bin/env python3
"""Replays the blocks of a running dev node through Ethereum's executable specification.

The specification (PyPI `ethereum-execution`) executes every block from the genesis on, with code that shares nothing
with ours, and checks each header's roots, gas, bloom and requests. See docs/conformance.md for how to run this.
"""

import argparse
import json
import sys
import time
import urllib.request

from ethereum.crypto.hash import keccak256
from ethereum.forks.osaka.blocks import Block
from ethereum.forks.osaka.fork import BlockChain, state_transition
from ethereum.forks.osaka.fork_types import Account, Address
from ethereum.forks.osaka.state import State, set_account, set_storage, state_root
from ethereum_rlp import rlp
from ethereum_types.bytes import Bytes, Bytes32
from ethereum_types.numeric import U64, U256, Uint


def unhex(text):
    digits = text.removeprefix("0x")
    return bytes.fromhex(digits.zfill(len(digits) + len(digits) % 2))


def call(url, method, *params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    # A node on this machine is reached without a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        answer = json.load(answer)
    if "error" in answer:
        sys.exit(f"error: {method}: {answer['error']['message']}")
    return answer["result"]


def genesis_state(genesis):
    state = State()
    for address, account in genesis["alloc"].items():
        address = Address(unhex(address))
        number = lambda name: int(str(account.get(name, "0x0")), 0)
        code = Bytes(unhex(account.get("code", "0x")))
        set_account(state, address, Account(Uint(number("nonce")), U256(number("balance")), code))
        for slot, value in account.get("storage", {}).items():
            slot = Bytes32(unhex(slot).rjust(32, b"\0"))
            set_storage(state, address, slot, U256(int(value, 16)))
    return state


def raw_block(url, number):
    return rlp.decode_to(Block, unhex(call(url, "debug_getRawBlock", hex(number))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rpc-url", default="http://127.0.0.1:8545", help="the dev node")
    parser.add_argument("--genesis", required=True, help="its genesis file, in geth's format")
    parser.add_argument("--blocks", type=int, default=50, help="how many blocks after the genesis")
    args = parser.parse_args()
    with open(args.genesis, encoding="utf-8") as file:
        genesis = json.load(file)
    chain_id = int(call(args.rpc_url, "eth_chainId"), 16)
    head = int(call(args.rpc_url, "eth_blockNumber"), 16)
    if head < args.blocks:
        sys.exit(f"error: the node has {head} blocks only: wait, or ask for fewer with --blocks")
    first = raw_block(args.rpc_url, 0)
    state = genesis_state(genesis)
    if state_root(state) != first.header.state_root:
        sys.exit("error: the node started from another genesis than the file")
    chain = BlockChain(blocks=[first], state=state, chain_id=U64(chain_id))
    started, gas, transactions = time.monotonic(), 0, 0
    for number in range(1, args.blocks + 1):
        block = raw_block(args.rpc_url, number)
        try:
            state_transition(chain, block)
        except Exception as error:
            sys.exit(f"DISAGREES at block {number}: {type(error).__name__}: {error}")
        gas += int(block.header.gas_used)
        transactions += len(block.transactions)
    last = chain.blocks[-1].header
    print(f"agrees on {args.blocks} blocks: {transactions} transactions, {gas} gas, {time.monotonic() - started:.0f} s")
    print(f"  last hash   0x{keccak256(rlp.encode(last)).hex()}")
    print(f"  state root  0x{last.state_root.hex()}")


if __name__ == "__main__":
    main()
