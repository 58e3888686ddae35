//! Blocks executed by alloy-evm's block executor and revm alone, with none of our program's rules.
//!
//! The program refuses Amsterdam. What the libraries would make of it can be measured all the same.

use alloy_consensus::{
    Header, TxEnvelope, proofs::calculate_receipt_root, transaction::SignerRecoverable,
};
use alloy_eips::eip7928::{AccountChanges, compute_block_access_list_hash};
use alloy_evm::{
    Database, EthEvm, EthEvmFactory, Evm, EvmEnv, EvmFactory,
    block::{BlockExecutor, BlockExecutorFactory},
    eth::{
        EthBlockExecutionCtx, EthBlockExecutorFactory, receipt_builder::AlloyReceiptBuilder,
        spec::EthExecutorSpec,
    },
    precompiles::PrecompilesMap,
};
use alloy_genesis::GenesisAccount;
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::{Address, B256, U256};
use program::{ChainConfig, consensus::DecodedBlock};
use revm::{
    bytecode::opcode::{EXTCODECOPY, EXTCODESIZE},
    context::CfgEnv,
    context_interface::cfg::{GasId, GasParams},
    database::{State, WrapDatabaseRef, states::bundle_state::BundleRetention},
    database_interface::DatabaseRef,
    inspector::NoOpInspector,
    interpreter::instructions::gas_table_spec,
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode, bal::BlockAccessIndex},
};
use std::{borrow::Cow, collections::BTreeMap, convert::Infallible};
use witness::record::Store;

/// A whole state.
pub(crate) type Accounts = BTreeMap<Address, GenesisAccount>;

/// Which rules the libraries are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Those of the chain config, which has no Amsterdam.
    OfConfig,
    /// Amsterdam as the libraries were released with it.
    Amsterdam,
    /// The same mechanisms with what `bal-devnet-3` had of them: the costs of its EIP-8037, and no EIP that came later.
    BalDevnet3,
}

/// The state before a block, and the hashes of the blocks before it by their number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before<'a> {
    pub(crate) accounts: &'a Accounts,
    pub(crate) hashes: &'a BTreeMap<u64, B256>,
}

/// A header's fields that executing the block gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) gas_used: u64,
    pub(crate) receipts_root: B256,
    pub(crate) requests_hash: B256,
    pub(crate) state_root: B256,
    pub(crate) access_list_hash: B256,
}

impl Results {
    /// What the header says. A field that it lacks is zero.
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            gas_used: header.gas_used,
            receipts_root: header.receipts_root,
            requests_hash: header.requests_hash.unwrap_or_default(),
            state_root: header.state_root,
            access_list_hash: header.block_access_list_hash.unwrap_or_default(),
        }
    }

    /// The fields by their names in a header.
    pub(crate) fn fields(&self) -> [(&'static str, String); 5] {
        [
            ("gasUsed", self.gas_used.to_string()),
            ("receiptsRoot", self.receipts_root.to_string()),
            ("requestsHash", self.requests_hash.to_string()),
            ("stateRoot", self.state_root.to_string()),
            ("blockAccessListHash", self.access_list_hash.to_string()),
        ]
    }
}

/// Executes a block.
///
/// # Errors
/// Why the libraries refuse it.
pub(crate) fn execute(
    rules: Rules,
    config: &ChainConfig,
    before: Before<'_>,
    block: &DecodedBlock,
) -> Result<Results, String> {
    let (header, body) = (block.header.inner(), &block.body);
    let forks = |amsterdam| Forks { config: config.clone(), amsterdam };
    // The executor's forks decide about EIP-8282 only; the EVM has its own.
    let factory = EthBlockExecutorFactory::new(
        AlloyReceiptBuilder::default(),
        forks(rules == Rules::Amsterdam),
        EthEvmFactory::default(),
    );
    let mut env = EvmEnv::for_eth_block(
        header,
        forks(rules != Rules::OfConfig),
        config.chain_id,
        config.blob_params(header.timestamp),
    );
    if rules == Rules::BalDevnet3 {
        bal_devnet_3(&mut env.cfg_env);
    }
    let state =
        State::builder().with_database_ref(before).with_bundle_update().with_bal_builder().build();
    let context = EthBlockExecutionCtx {
        parent_hash: header.parent_hash,
        parent_beacon_block_root: header.parent_beacon_block_root,
        ommers: &[],
        withdrawals: body.withdrawals.as_ref().map(|list| Cow::Borrowed(list.as_slice())),
        extra_data: header.extra_data.clone(),
        tx_count_hint: None,
        slot_number: header.slot_number,
    };
    let mut evm = factory.evm_factory().create_evm(state, env);
    if rules == Rules::BalDevnet3 {
        evm = without_code_surcharge(evm);
    }
    let mut executor = factory.create_executor(evm, context);
    executor.apply_pre_execution_changes().map_err(|error| error.to_string())?;
    for (index, transaction) in body.transactions.iter().enumerate() {
        let refused = |reason: &dyn std::fmt::Display| format!("transaction {index}: {reason}");
        let transaction = TxEnvelope::from(transaction.clone())
            .try_into_recovered()
            .map_err(|_| refused(&"its signature is invalid"))?;
        executor
            .execute_transaction_with_index(&transaction, index)
            .map_err(|error| refused(&error))?;
    }
    let last = BlockAccessIndex::from_tx_index(body.transactions.len() as u64);
    executor.evm_mut().db_mut().set_bal_index(last);
    let (evm, result) = executor.finish().map_err(|error| error.to_string())?;
    let (mut state, _) = evm.finish();
    let access_list = state.take_built_alloy_bal().unwrap_or_default();
    Ok(Results {
        gas_used: result.gas_used,
        receipts_root: calculate_receipt_root(&result.receipts),
        requests_hash: result.requests.requests_hash(),
        state_root: state_root(&after(before.accounts, &mut state)),
        access_list_hash: compute_block_access_list_hash(&access_list),
    })
}

/// What `bal-devnet-3` had (execution-spec-tests `bal@v5.2.0`): of the EIPs that change costs, EIP-8037 in an older
/// version. EIP-2780, EIP-7976, EIP-7981, EIP-8038 and EIP-8246 came later.
///
/// Every number is from EIP-8037 as it was in March 2026; none was fitted to a fixture. What changed in revm's code since,
/// and not in its numbers, stays as it was released.
fn bal_devnet_3(cfg: &mut CfgEnv) {
    const STATE_BYTE: u64 = 1174;
    const NEW_ACCOUNT: u64 = 112 * STATE_BYTE;
    let mut gas = GasParams::new_spec(SpecId::OSAKA);
    // Cold and warm access are as in EIP-2929; writing a slot costs 5,000 less a cold load, and less the warm base.
    let write = gas.get(GasId::sstore_reset_without_cold_load_cost());
    gas.override_gas([
        (GasId::sstore_set_without_load_cost(), write),
        (GasId::sstore_set_refund(), write),
        (GasId::sstore_set_state_gas(), 32 * STATE_BYTE),
        (GasId::new_account_cost(), 0),
        (GasId::new_account_cost_for_selfdestruct(), 0),
        (GasId::new_account_state_gas(), NEW_ACCOUNT),
        (GasId::create(), 9000),
        (GasId::tx_create_cost(), 9000),
        (GasId::create_state_gas(), NEW_ACCOUNT),
        (GasId::code_deposit_cost(), 0),
        (GasId::code_deposit_state_gas(), STATE_BYTE),
        (GasId::tx_eip7702_regular_gas(), 7500),
        (GasId::tx_eip7702_regular_refund(), 0),
        (GasId::tx_eip7702_state_gas_bytecode(), 23 * STATE_BYTE),
    ]);
    cfg.set_gas_params(gas);
    cfg.enable_amsterdam_eip2780 = false;
    cfg.amsterdam_eip8246_delayed_clear_disabled = true;
}

/// The EVM without EIP-8038's second read for an account's code, which is not among [`GasParams`].
fn without_code_surcharge<DB: Database>(
    evm: EthEvm<DB, NoOpInspector, PrecompilesMap>,
) -> EthEvm<DB, NoOpInspector, PrecompilesMap> {
    let mut evm = evm.into_inner();
    for opcode in [EXTCODESIZE, EXTCODECOPY] {
        let gas = gas_table_spec(SpecId::OSAKA)[usize::from(opcode)];
        evm.instruction.insert_gas(opcode, gas);
    }
    EthEvm::new(evm, false)
}

/// The root of these accounts' trie.
pub(crate) fn state_root(accounts: &Accounts) -> B256 {
    Store::with_accounts(accounts).1
}

/// Makes the changes that a block access list names.
pub(crate) fn apply(access_list: &[AccountChanges], accounts: &mut Accounts) {
    for changes in access_list.iter().filter(|changes| changes.has_changes()) {
        let account = accounts.entry(changes.address).or_default();
        account.balance = changes.balance_post_state().unwrap_or(account.balance);
        account.nonce = changes.nonce_post_state().or(account.nonce);
        if let Some(code) = changes.code_post_state() {
            account.code = Some(code.clone());
        }
        for (slot, value) in changes.storage_post_states() {
            account.storage.get_or_insert_default().insert(slot.into(), value.into());
        }
        if is_empty(account) {
            accounts.remove(&changes.address);
        }
    }
}

fn is_empty(account: &GenesisAccount) -> bool {
    account.balance.is_zero()
        && account.nonce.unwrap_or_default() == 0
        && account.non_empty_code().is_none()
}

/// The accounts after a block.
fn after(before: &Accounts, state: &mut State<WrapDatabaseRef<Before<'_>>>) -> Accounts {
    state.merge_transitions(BundleRetention::PlainState);
    let mut accounts = before.clone();
    let bundle = state.take_bundle();
    for (address, changed) in bundle.state {
        let Some(info) = &changed.info else {
            accounts.remove(&address);
            continue;
        };
        let account = accounts.entry(address).or_default();
        account.balance = info.balance;
        account.nonce = Some(info.nonce);
        if account.code_hash().unwrap_or_default() != info.code_hash {
            let code = info.code.as_ref().or_else(|| bundle.contracts.get(&info.code_hash));
            account.code = code.map(Bytecode::original_bytes);
        }
        if changed.was_destroyed() {
            account.storage = None;
        }
        for (slot, value) in changed.storage {
            let storage = account.storage.get_or_insert_default();
            storage.insert(slot.into(), value.present_value.into());
        }
    }
    accounts
}

impl DatabaseRef for Before<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.accounts.get(&address).map(|account| {
            let code = account.non_empty_code().cloned().unwrap_or_default();
            AccountInfo::from_bytecode(Bytecode::new_raw(code))
                .with_balance(account.balance)
                .with_nonce(account.nonce.unwrap_or_default())
        }))
    }

    fn code_by_hash_ref(&self, _: B256) -> Result<Bytecode, Infallible> {
        unreachable!("an account comes with its code")
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        let storage = self.accounts.get(&address).and_then(|account| account.storage.as_ref());
        let value = storage.and_then(|storage| storage.get(&B256::from(slot)));
        Ok(value.copied().unwrap_or_default().into())
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        Ok(self.hashes.get(&number).copied().unwrap_or_default())
    }
}

/// A chain config's forks, and Amsterdam from the start or never.
#[derive(Clone, Debug)]
struct Forks {
    config: ChainConfig,
    amsterdam: bool,
}

impl EthereumHardforks for Forks {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        match fork {
            EthereumHardfork::Amsterdam if self.amsterdam => ForkCondition::Timestamp(0),
            fork => self.config.ethereum_fork_activation(fork),
        }
    }
}

impl EthExecutorSpec for Forks {
    fn deposit_contract_address(&self) -> Option<Address> {
        self.config.deposit_contract_address()
    }
}
