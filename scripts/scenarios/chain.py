"""A chain from a made-up genesis, whose blocks the specification executes and judges.

* `Chain.block` adds a block, with the header that the specification computes, or with one field changed.
* What the specification refuses is kept too: as a block that must be refused, with the names of the reasons.
* `Chain.fixture` is the test that `l2-prover conformance` reads.
"""

import copy
import dataclasses

from ethereum.exceptions import EthereumException, InvalidBlock
from ethereum_rlp import rlp as spec_rlp
from ethereum_rlp.exceptions import RLPException
from ethereum_types.bytes import Bytes, Bytes20, Bytes32
from ethereum_types.numeric import U64, U256, Uint

from . import rlp, systems
from .spec import keccak, modules, since

EMPTY_ROOT = keccak(rlp.encode(b""))
NO_OMMERS = keccak(rlp.encode([]))
NO_REQUESTS = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

# A header's fields in the order of the encoding, and the fork that introduced each.
HEADER = {
    "parent_hash": "Paris", "ommers_hash": "Paris", "coinbase": "Paris", "state_root": "Paris",
    "transactions_root": "Paris", "receipt_root": "Paris", "bloom": "Paris", "difficulty": "Paris",
    "number": "Paris", "gas_limit": "Paris", "gas_used": "Paris", "timestamp": "Paris", "extra_data": "Paris",
    "prev_randao": "Paris", "nonce": "Paris", "base_fee_per_gas": "Paris", "withdrawals_root": "Shanghai",
    "blob_gas_used": "Cancun", "excess_blob_gas": "Cancun", "parent_beacon_block_root": "Cancun",
    "requests_hash": "Prague",
}  # fmt: skip

# Maps the specification's exceptions to the names of execution-spec-tests.
REASONS = {
    # Bytes that cannot be decoded are malformed, whatever is wrong with them.
    "DecodingError": ["RLP_INVALID_DATA"],
    "InsufficientBalanceError": ["INSUFFICIENT_ACCOUNT_FUNDS"],
    "InvalidSenderError": ["SENDER_NOT_EOA"],
    "InvalidSignatureError": ["INVALID_SIGNATURE_VRS"],
    "NonceMismatchError": ["NONCE_MISMATCH_TOO_LOW", "NONCE_MISMATCH_TOO_HIGH"],
    "NonceOverflowError": ["NONCE_IS_MAX", "NONCE_OVERFLOW"],
    "GasUsedExceedsLimitError": ["GAS_ALLOWANCE_EXCEEDED"],
    "InsufficientTransactionGasError": ["INTRINSIC_GAS_TOO_LOW", "INTRINSIC_GAS_BELOW_FLOOR_GAS_COST"],
    "InitCodeTooLargeError": ["INITCODE_SIZE_EXCEEDED"],
    "TransactionGasLimitExceededError": ["GAS_LIMIT_EXCEEDS_MAXIMUM"],
    "PriorityFeeGreaterThanMaxFeeError": ["PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS"],
    "InsufficientMaxFeePerGasError": ["INSUFFICIENT_MAX_FEE_PER_GAS"],
    "InsufficientMaxFeePerBlobGasError": ["INSUFFICIENT_MAX_FEE_PER_BLOB_GAS"],
    "BlobGasLimitExceededError": ["TYPE_3_TX_MAX_BLOB_GAS_ALLOWANCE_EXCEEDED"],
    "BlobCountExceededError": ["TYPE_3_TX_BLOB_COUNT_EXCEEDED"],
    "InvalidBlobVersionedHashError": ["TYPE_3_TX_INVALID_BLOB_VERSIONED_HASH"],
    "NoBlobDataError": ["TYPE_3_TX_ZERO_BLOBS"],
    "EmptyAuthorizationListError": ["TYPE_4_EMPTY_AUTHORIZATION_LIST"],
    "TransactionTypeError": ["TYPE_NOT_SUPPORTED", "TYPE_3_TX_PRE_FORK", "TYPE_4_TX_PRE_FORK"],
    "TransactionTypeContractCreationError": ["TYPE_3_TX_CONTRACT_CREATION", "TYPE_4_TX_CONTRACT_CREATION"],
}


class Undecided(Exception):
    """The specification neither accepts nor refuses: its own arithmetic ends here."""


def _blobs(raw):
    """How many blobs a transaction names."""
    if raw[0] != 3:
        return 0
    try:
        return len(spec_rlp.decode(Bytes(raw[1:]))[10])
    except (RLPException, IndexError):
        return 0


# Header fields that execution determines, and the name of the refusal if one is wrong.
DECIDED = {
    "state_root": "INVALID_STATE_ROOT",
    "receipt_root": "INVALID_RECEIPTS_ROOT",
    "bloom": "INVALID_LOG_BLOOM",
    "gas_used": "INVALID_GAS_USED",
    "requests_hash": "INVALID_REQUESTS",
}


@dataclasses.dataclass
class Account:
    """An account of a genesis."""

    balance: int = 0
    nonce: int = 0
    code: bytes = b""
    storage: dict = dataclasses.field(default_factory=dict)


class Chain:
    """See the module's documentation."""

    def __init__(self, fork, accounts, systems_present=True, chain_id=1, **genesis):
        self.fork, self.chain_id, self.spec = fork, chain_id, modules(fork)
        self.accounts = dict(accounts)
        if systems_present:
            for contract, code in systems.CODE.items():
                if since(fork, systems.FIRST_FORK[contract]):
                    self.accounts.setdefault(contract, Account(nonce=1, code=code))
        state = self.spec.state.State()
        for where, account in self.accounts.items():
            where = Bytes20(where)
            self.spec.state.set_account(
                state,
                where,
                self.spec.fork_types.Account(Uint(account.nonce), U256(account.balance), Bytes(account.code)),
            )
            for slot, value in account.storage.items():
                self.spec.state.set_storage(state, where, Bytes32(slot.to_bytes(32, "big")), U256(value))
        header = {
            "parent_hash": bytes(32), "ommers_hash": NO_OMMERS, "coinbase": bytes(20),
            "state_root": bytes(self.spec.state.state_root(state)), "transactions_root": EMPTY_ROOT,
            "receipt_root": EMPTY_ROOT, "bloom": bytes(256), "difficulty": 0, "number": 0, "gas_limit": 30_000_000,
            "gas_used": 0, "timestamp": 0, "extra_data": b"", "prev_randao": bytes(32), "nonce": bytes(8),
            "base_fee_per_gas": 10, "withdrawals_root": EMPTY_ROOT, "blob_gas_used": 0, "excess_blob_gas": 0,
            "parent_beacon_block_root": bytes(32), "requests_hash": NO_REQUESTS,
        } | genesis  # fmt: skip
        raw = self._encode(self._fields(header), [], [])
        self.genesis = raw
        # The specification needs only the parent's header, and the hashes before it.
        self.chain = self.spec.fork.BlockChain(blocks=[self._decode(raw)], state=state, chain_id=U64(chain_id))
        self.last_hash = keccak(rlp.encode(self._fields(header)))
        self.blocks = []
        self.refused = 0

    # What a family reads of the chain's head.

    def account(self, where):
        """The account at an address, as the specification's `Account`."""
        return self.spec.state.get_account(self.chain.state, Bytes20(where))

    def storage(self, where, slot):
        """A slot of an account."""
        return int(self.spec.state.get_storage(self.chain.state, Bytes20(where), Bytes32(slot.to_bytes(32, "big"))))

    @property
    def parent(self):
        """The head's header."""
        return self.chain.blocks[-1].header

    def base_fee(self):
        """The next block's base fee."""
        parent = self.parent
        return int(
            self.spec.fork.calculate_base_fee_per_gas(
                parent.gas_limit, parent.gas_limit, parent.gas_used, parent.base_fee_per_gas
            )
        )

    # Making blocks.

    def block(self, transactions=(), withdrawals=(), reasons=(), change=None, size=None, spoil=None, **header):
        """Adds a block, valid or not; says whether it is valid.

        `header` are fields to build with. `change(header)` changes fields of the finished header, a `dict`. `reasons`
        are the names that a refusal may have, beside the one that follows from the specification's exception.
        `size(raw)` may change the finished RLP. `spoil`, a random number generator, sometimes puts a block before it
        that is the same but for one field.
        """
        transactions = list(transactions)
        withdrawals = list(withdrawals)
        fields, state, error = self._execute(transactions, withdrawals, header)
        if error is not None:
            # Makes a header as if the transactions were absent: their fault is found before it matters.
            fields, state, nothing = self._execute([], withdrawals, header)
            if nothing is not None:
                fields = self.outline(header)
            if "blob_gas_used" in fields:
                fields["blob_gas_used"] = 131_072 * sum(_blobs(raw) for raw in transactions)
        fields["transactions_root"] = self._list_root(transactions)
        if "withdrawals_root" in fields:
            fields["withdrawals_root"] = self._list_root([rlp.encode(item) for item in withdrawals])
        computed = dict(fields)
        if change:
            change(fields)
        raw = self._encode(list(fields.values()), transactions, withdrawals)
        if size:
            raw = size(raw)
        untouched = error is None and fields == computed and not size
        verdict = None if error is None else error
        if verdict is None and spoil and spoil.random() < 0.1:
            self._spoiled(spoil, dict(fields), transactions, withdrawals)
        if verdict is None:
            verdict = self._judge(raw, state if untouched else None)
        names = set(reasons)
        if verdict is None:
            self.last_hash = keccak(rlp.encode(list(fields.values())))
            self.blocks.append({"rlp": "0x" + raw.hex(), "blockHeader": {"hash": "0x" + self.last_hash.hex()}})
            return True
        names |= {f"TransactionException.{name}" for name in REASONS.get(type(verdict).__name__, [])}
        if not names:
            raise AssertionError(f"a refusal that no name was given for: {verdict!r}")
        self._refuse(raw, names)
        return False

    def _spoiled(self, rng, fields, transactions, withdrawals):
        field = rng.choice([field for field in DECIDED if field in fields])
        value = fields[field]
        if field == "gas_used":
            fields[field] = value + 1
        else:
            at = rng.randrange(len(value))
            fields[field] = value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
        raw = self._encode(list(fields.values()), transactions, withdrawals)
        if self._judge(raw, None) is None:
            raise AssertionError(f"the specification does not look at {field}")
        self._refuse(raw, {"BlockException." + DECIDED[field]})

    def _refuse(self, raw, names):
        self.refused += 1
        self.blocks.append({"rlp": "0x" + raw.hex(), "expectException": "|".join(sorted(names))})

    def outline(self, header):
        """The next header as if nothing happened in its block, with the fields of `header`."""
        parent = self.parent
        fields = {
            "parent_hash": self.last_hash, "ommers_hash": NO_OMMERS, "coinbase": bytes(20),
            "state_root": bytes(parent.state_root), "transactions_root": EMPTY_ROOT, "receipt_root": EMPTY_ROOT,
            "bloom": bytes(256), "difficulty": 0, "number": int(parent.number) + 1,
            "gas_limit": int(parent.gas_limit), "gas_used": 0, "timestamp": int(parent.timestamp) + 12,
            "extra_data": b"", "prev_randao": keccak(rlp.encode(int(parent.number))), "nonce": bytes(8),
            "base_fee_per_gas": self.base_fee(), "withdrawals_root": EMPTY_ROOT,
            "blob_gas_used": 0, "excess_blob_gas": 0, "parent_beacon_block_root": keccak(b"beacon"),
            "requests_hash": NO_REQUESTS,
        }  # fmt: skip
        if since(self.fork, "Cancun"):
            fields["excess_blob_gas"] = int(self.spec.gas.calculate_excess_blob_gas(parent))
        return {name: value for name, value in (fields | header).items() if since(self.fork, HEADER[name])}

    def _execute(self, transactions, withdrawals, header):
        """The finished header, the state after it, and what the specification raised."""
        spec, fields = self.spec, self.outline(header)
        state = self._copy_state()
        try:
            decoded = tuple(self._transaction(raw) for raw in transactions)
            environment = dict(
                chain_id=U64(self.chain_id), state=state, block_gas_limit=Uint(fields["gas_limit"]),
                block_hashes=spec.fork.get_last_256_block_hashes(self.chain),
                coinbase=Bytes20(fields["coinbase"]), number=Uint(fields["number"]),
                base_fee_per_gas=Uint(fields["base_fee_per_gas"]), time=U256(fields["timestamp"]),
                prev_randao=Bytes32(fields["prev_randao"]),
            )  # fmt: skip
            if since(self.fork, "Cancun"):
                environment["excess_blob_gas"] = U64(fields["excess_blob_gas"])
                environment["parent_beacon_block_root"] = Bytes32(fields["parent_beacon_block_root"])
            environment = spec.vm.BlockEnvironment(**environment)
            body = dict(block_env=environment, transactions=decoded)
            if since(self.fork, "Shanghai"):
                body["withdrawals"] = tuple(
                    spec.blocks.Withdrawal(U64(index), U64(validator), Bytes20(where), U256(amount))
                    for index, validator, where, amount in withdrawals
                )
            output = spec.fork.apply_body(**body)
        except (EthereumException, RLPException) as error:
            return fields, None, error
        except OverflowError as error:
            raise Undecided from error
        fields["state_root"] = bytes(spec.state.state_root(state))
        fields["receipt_root"] = bytes(spec.trie.root(output.receipts_trie))
        fields["bloom"] = bytes(spec.bloom.logs_bloom(output.block_logs))
        fields["gas_used"] = int(output.block_gas_used)
        if since(self.fork, "Cancun"):
            fields["blob_gas_used"] = int(output.blob_gas_used)
        if since(self.fork, "Prague"):
            fields["requests_hash"] = bytes(spec.requests.compute_requests_hash(output.requests))
        # The caller's fields stay; the others are computed.
        return fields | header, state, None

    def _judge(self, raw, state):
        """Puts a block on the chain, or returns what the specification has against it.

        `state` is the state after the block if it was just executed.
        """
        fork = self.spec.fork
        try:
            block = self._decode(raw)
            if state is not None:
                fork.validate_header(self.chain, block.header)
                if since(self.fork, "Osaka") and len(raw) > fork.MAX_RLP_BLOCK_SIZE:
                    raise InvalidBlock("too long")
                self.chain.state = state
                self.chain.blocks = (self.chain.blocks + [block])[-255:]
                return None
            before = self._copy_state()
            try:
                fork.state_transition(self.chain, block)
            except BaseException:
                self.chain.state = before
                raise
        except (EthereumException, RLPException) as error:
            return error
        except OverflowError as error:
            raise Undecided from error
        return None

    def _copy_state(self):
        spec, state = self.spec.state, self.chain.state
        return spec.State(
            _main_trie=copy.copy(self.spec.trie.copy_trie(state._main_trie)),
            _storage_tries={where: self.spec.trie.copy_trie(trie) for where, trie in state._storage_tries.items()},
        )

    def _transaction(self, raw):
        if raw[0] >= 0xC0:
            return spec_rlp.decode_to(self.spec.transactions.LegacyTransaction, raw)
        return Bytes(raw)

    def _list_root(self, items):
        trie = self.spec.trie.Trie(secured=False, default=None)
        for index, item in enumerate(items):
            self.spec.trie.trie_set(trie, Bytes(rlp.encode(index)), Bytes(item))
        return bytes(self.spec.trie.root(trie))

    def _fields(self, header):
        return [header[name] for name in HEADER if since(self.fork, HEADER[name])]

    def _encode(self, header, transactions, withdrawals):
        parts = [
            rlp.encode(header),
            rlp.encode_list([raw if raw[:1] >= b"\xc0" else rlp.encode(raw) for raw in transactions]),
            rlp.encode([]),
        ]
        if since(self.fork, "Shanghai"):
            parts.append(rlp.encode([list(item) for item in withdrawals]))
        return rlp.encode_list(parts)

    def _decode(self, raw):
        return spec_rlp.decode_to(self.spec.blocks.Block, Bytes(raw))

    def fixture(self):
        """The chain as a blockchain test."""
        number = lambda value: hex(value)
        word = lambda value: "0x" + value.to_bytes(32, "big").hex()
        return {
            "network": self.fork,
            "config": {"chainid": number(self.chain_id)},
            "genesisRLP": "0x" + self.genesis.hex(),
            "pre": {
                "0x" + where.hex(): {
                    "balance": number(account.balance),
                    "nonce": number(account.nonce),
                    "code": "0x" + account.code.hex(),
                    "storage": {word(slot): word(value) for slot, value in sorted(account.storage.items())},
                }
                for where, account in sorted(self.accounts.items())
            },
            "blocks": self.blocks,
            "lastblockhash": "0x" + self.last_hash.hex(),
        }  # fmt: skip
