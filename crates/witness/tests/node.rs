//! A node that answers, one that lies, and one that is not there.

mod support;

use alloy_primitives::{Address, B256, Bytes, keccak256};
use expect_test::expect;
use jsonrpsee::{
    RpcModule,
    server::{Server, ServerHandle},
    types::ErrorObjectOwned,
};
use program::{ChainConfig, Terms};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{Known, chain, deposits, header_object, text};
use witness::{Depth, Error, Node, NodeOptions, Nodes};

/// What the fake node answers. Methods that it does not have are `None`.
struct Says {
    blocks: Vec<Known>,
    chain_id: u64,
    raw_blocks: bool,
    witness: Option<fn(&Known) -> Value>,
    finalized: Result<u64, &'static str>,
}

impl Says {
    fn honest() -> Self {
        let (witness, finalized) = (Some(Known::witness as fn(&Known) -> Value), Ok(0));
        Self { blocks: chain(), chain_id: 1337, raw_blocks: true, witness, finalized }
    }

    async fn start(self) -> (ServerHandle, String) {
        self.start_with(|_| {}).await
    }

    /// Starts the node with more methods, which `add` adds.
    async fn start_with(self, add: impl FnOnce(&mut RpcModule<Self>)) -> (ServerHandle, String) {
        fn number(params: &jsonrpsee::types::Params<'_>) -> u64 {
            let number: String = params.sequence().next().unwrap();
            u64::from_str_radix(&number[2..], 16).unwrap()
        }
        fn find(says: &Says, number: u64) -> Option<&Known> {
            says.blocks.iter().find(|block| block.header.number == number)
        }
        let (raw_blocks, witness) = (self.raw_blocks, self.witness);
        let mut module = RpcModule::new(self);
        module
            .register_method("eth_chainId", |_, says, _| format!("{:#x}", says.chain_id))
            .unwrap();
        module.register_method("eth_blockNumber", |_, _, _| "0x2").unwrap();
        module
            .register_method("eth_getBlockByNumber", |params, says, _| {
                let object = |number| find(says, number).map_or(Value::Null, Known::object);
                Ok::<_, ErrorObjectOwned>(match params.sequence().next().unwrap() {
                    "safe" => says.blocks[0].object(),
                    "finalized" => object(
                        says.finalized
                            .map_err(|error| ErrorObjectOwned::owned(-32602, error, None::<()>))?,
                    ),
                    _ => match number(&params) {
                        0 => header_object(&says.blocks[0].parent),
                        number => object(number),
                    },
                })
            })
            .unwrap();
        if raw_blocks {
            module
                .register_method("debug_getRawBlock", |params, says, _| {
                    let number = number(&params);
                    find(says, number).map(|block| block.rlp.clone()).ok_or_else(|| {
                        ErrorObjectOwned::owned(
                            -32000,
                            format!("block #{number} not found"),
                            None::<()>,
                        )
                    })
                })
                .unwrap();
        }
        if let Some(witness) = witness {
            module
                .register_method("debug_executionWitness", move |params, says, _| {
                    witness(find(says, number(&params)).unwrap())
                })
                .unwrap();
        }
        add(&mut module);
        let server = Server::builder().build("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        (server.start(module), url)
    }

    /// Prepares blocks 1 and 2 and gives the input, or the error's text without the port.
    async fn prepare(self, first: u64, last: u64) -> Result<Vec<u8>, (Error, String)> {
        let (_handle, url) = self.start().await;
        let named = |error: Error| {
            let text = text(&error).replace(&url, "http://node");
            (error, text)
        };
        let node = Node::connect(&url, ChainConfig::dev()).await.map_err(named)?;
        let prepared = node.prepare(first, last).await.map_err(named)?;
        assert_eq!(program::run(&prepared.input).unwrap(), prepared.statement);
        assert_eq!(
            (prepared.statement.first_number, prepared.statement.last_number),
            (first, last)
        );
        assert_eq!(prepared.blocks.len() as u64, last - first + 1);
        assert!(
            prepared.blocks.iter().all(|block| block.gas_used == 21_000 && block.transactions == 1)
        );
        Ok(prepared.input)
    }

    async fn refusal(self) -> (Error, String) {
        self.prepare(1, 2).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_range_of_blocks_becomes_one_executed_batch() {
    let batch = Says::honest().prepare(1, 2).await.unwrap();
    let single = Says::honest().prepare(2, 2).await.unwrap();
    assert_ne!(batch, single);
}

#[tokio::test]
async fn every_way_a_node_may_put_it_gives_the_same_input() {
    let expected = Says::honest().prepare(1, 2).await.unwrap();
    let backwards = |block: &Known| {
        let mut witness = block.witness();
        witness["state"].as_array_mut().unwrap().reverse();
        witness
    };
    let with_header_objects = |block: &Known| {
        let mut witness = block.witness();
        witness["headers"] = json!([header_object(&block.parent)]);
        witness
    };
    // In the form of geth for empty lists, and of older nodes for others.
    let with_maps = |block: &Known| {
        let mut witness = block.witness();
        let by_hash = |item: &Bytes| (keccak256(item).to_string(), json!(item));
        witness["state"] = block.state.iter().map(by_hash).collect();
        witness["codes"] = block.codes.iter().map(|code| (code.to_string(), json!({}))).collect();
        witness["headers"] = Value::Null;
        witness
    };
    let without_headers = |block: &Known| {
        let mut witness = block.witness();
        witness.as_object_mut().unwrap().remove("headers");
        witness
    };
    for witness in
        [backwards as fn(&Known) -> Value, with_header_objects, with_maps, without_headers]
    {
        let says = Says { witness: Some(witness), ..Says::honest() };
        assert_eq!(says.prepare(1, 2).await.unwrap(), expected);
    }
    let says = Says { raw_blocks: false, ..Says::honest() };
    assert_eq!(says.prepare(1, 2).await.unwrap(), expected);
    // By hash alone.
    let (_handle, url) = Says { witness: None, ..Says::honest() }
        .start_with(|module| {
            module
                .register_method("debug_executionWitnessByBlockHash", |params, says, _| {
                    let hash: B256 = params.sequence().next().unwrap();
                    says.blocks.iter().find(|block| block.header.hash() == hash).unwrap().witness()
                })
                .unwrap();
        })
        .await;
    let node = Node::connect(&url, ChainConfig::dev()).await.unwrap();
    assert_eq!(node.prepare(1, 2).await.unwrap().input, expected);
}

#[tokio::test]
async fn the_head_and_its_hash_are_told() {
    let blocks = chain();
    let (_handle, url) = Says::honest().start().await;
    let node = Node::connect(&url, ChainConfig::dev()).await.unwrap();
    assert_eq!(node.head().await.unwrap(), 2);
    let said = node.block(2).await.unwrap().unwrap();
    assert_eq!((said.hash, said.gas_used), (blocks[1].header.hash(), blocks[1].header.gas_used));
    assert_eq!(node.block(3).await.unwrap(), None);
}

#[tokio::test]
async fn a_node_of_another_chain_is_refused() {
    let (error, text) = Says { chain_id: 5, ..Says::honest() }.refusal().await;
    assert!(matches!(error, Error::WrongChain { expected: 1337, found: 5, .. }));
    expect!["L2 node http://node is of chain 5, but the chain config is that of chain 1337"]
        .assert_eq(&text);
}

#[tokio::test]
async fn a_node_without_witnesses_is_named_as_such() {
    let (error, text) = Says { witness: None, ..Says::honest() }.refusal().await;
    assert!(matches!(error, Error::NoWitnessApi { .. }));
    expect!["L2 node http://node offers neither debug_executionWitness nor eth_getProof: enable its debug API or use another node"]
        .assert_eq(&text);
}

#[tokio::test]
async fn a_block_that_the_node_does_not_have_is_named() {
    for raw_blocks in [true, false] {
        let (error, text) = Says { raw_blocks, ..Says::honest() }.prepare(2, 3).await.unwrap_err();
        assert!(matches!(error, Error::BlockNotFound { number: 3, .. }));
        expect!["L2 node http://node has no block 3"].assert_eq(&text);
    }
    let (error, _) = Says::honest().prepare(2, 1).await.unwrap_err();
    assert!(matches!(error, Error::EmptyRange { first: 2, last: 1 }));
}

#[tokio::test]
async fn an_unreachable_node_is_named_without_its_password() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://user:secret@127.0.0.1:{port}/token?key=secret");
    let error = Node::connect(&url, ChainConfig::dev()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    let text = text(&error);
    assert!(
        text.starts_with(&format!("L2 node http://127.0.0.1:{port} is unreachable: ")),
        "{text}"
    );
    assert!(!text.contains("secret") && !text.contains("token"), "{text}");
    let error = Node::connect("localhost", ChainConfig::dev()).await.unwrap_err();
    assert!(matches!(error, Error::Url { .. }), "{error}");
}

// SOUNDNESS: what is missing is an error that names it.
#[tokio::test]
async fn a_witness_without_one_of_its_nodes_is_incomplete() {
    for gone in 0..chain()[0].state.len() {
        let mut says = Says::honest();
        let node = says.blocks[0].state.remove(gone);
        let hash = keccak256(&node);
        let (error, text) = says.prepare(1, 1).await.unwrap_err();
        assert!(matches!(error, Error::Incomplete { block: 1, .. }), "{text}");
        assert!(text.contains(&hash.to_string()), "{text}");
    }
}

// SOUNDNESS: a node is not believed.
#[tokio::test]
async fn a_block_with_another_state_root_is_refused() {
    let mut says = Says::honest();
    let mut header = says.blocks[1].header.inner().clone();
    let rlp = alloy_rlp::encode(&header);
    header.state_root.0[0] ^= 1;
    let lie = alloy_rlp::encode(&header);
    let at = says.blocks[1].rlp.windows(rlp.len()).position(|window| window == rlp).unwrap();
    let mut block = says.blocks[1].rlp.to_vec();
    block[at..at + lie.len()].copy_from_slice(&lie);
    says.blocks[1].rlp = block.into();
    let (error, text) = says.refusal().await;
    assert!(matches!(error, Error::Refused { .. }), "{text}");
    assert!(text.contains("block 2"), "{text}");
}

#[tokio::test]
async fn blocks_that_do_not_follow_one_another_are_refused() {
    let mut says = Says::honest();
    let mut first = says.blocks[0].clone();
    first.header = says.blocks[1].header.clone();
    says.blocks[1] = first;
    let (error, text) = says.refusal().await;
    assert!(matches!(error, Error::Malformed { .. }), "{text}");
    expect!["L2 node http://node is malformed: its block 2 has number 1"].assert_eq(&text);

    let mut says = Says::honest();
    let mut header = says.blocks[1].header.inner().clone();
    let rlp = alloy_rlp::encode(&header);
    header.parent_hash.0[0] ^= 1;
    let mut block = says.blocks[1].rlp.to_vec();
    let at = block.windows(rlp.len()).position(|window| window == rlp).unwrap();
    block[at..at + rlp.len()].copy_from_slice(&alloy_rlp::encode(&header));
    says.blocks[1].rlp = block.into();
    let (error, text) = says.refusal().await;
    assert!(matches!(error, Error::Unlinked { number: 2, .. }), "{text}");
}

#[tokio::test]
async fn noise_instead_of_a_block_is_malformed() {
    let mut says = Says::honest();
    says.blocks[0].rlp = Bytes::from_static(&[0xf8, 1, 2, 3]);
    let (error, text) = says.refusal().await;
    assert!(matches!(error, Error::Malformed { .. }), "{text}");
    let (error, text) =
        Says { witness: Some(|_| json!({"state": 5})), ..Says::honest() }.refusal().await;
    assert!(matches!(error, Error::Malformed { .. }), "{text}");
}

#[tokio::test]
async fn the_first_node_that_works_is_used_and_the_others_are_named() {
    let nowhere = "http://127.0.0.1:1".to_owned();
    let (_liar, liar) = {
        let mut says = Says::honest();
        says.blocks[0].state.clear();
        says.start().await
    };
    let (_noise, noise) = Says { witness: Some(|_| json!("?")), ..Says::honest() }.start().await;
    let (_honest, honest) = Says::honest().start().await;
    let urls = [nowhere.clone(), liar.clone(), noise.clone(), honest];
    let connect = async |urls: &[String]| {
        let config = ChainConfig::dev();
        Nodes::connect(urls, config, NodeOptions::default(), Depth::Latest).await
    };
    let nodes = connect(&urls).await.unwrap();
    assert_eq!(nodes.head().await.unwrap(), 2);
    let expected = Says::honest().prepare(1, 2).await.unwrap();
    assert_eq!(nodes.prepare(1, 2, Address::ZERO).await.unwrap().input, expected);
    let faults = nodes.faults();
    let found: Vec<_> = faults.iter().map(|fault| fault.node.as_str()).collect();
    let names = [&nowhere, &liar, &noise].map(|url| format!("L2 node {url}"));
    assert_eq!(found, names);
    for (fault, words) in faults.iter().zip(["unreachable", "incomplete", "malformed"]) {
        assert!(fault.error.contains(words), "{}", fault.error);
    }
    assert_eq!(nodes.head().await.unwrap(), 2, "those that rest are not asked");

    let error = connect(&urls[..1]).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let nodes = connect(&urls[..3]).await.unwrap();
    let error = nodes.prepare(1, 2, Address::ZERO).await.unwrap_err();
    assert!(matches!(&error, Error::AllFailed(errors) if errors.len() == 2), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_hangs_is_not_waited_for_alone() {
    let (_silent, silent) = Says {
        witness: Some(|_| {
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_secs(15)));
            json!("?")
        }),
        ..Says::honest()
    }
    .start()
    .await;
    let (_honest, honest) = Says::honest().start().await;
    let (urls, options) = ([silent.clone(), honest], NodeOptions::default());
    let nodes = Nodes::connect(&urls, ChainConfig::dev(), options, Depth::Latest).await.unwrap();
    let begun = Instant::now();
    let expected = Says::honest().prepare(1, 2).await.unwrap();
    assert_eq!(nodes.prepare(1, 2, Address::ZERO).await.unwrap().input, expected);
    let took = begun.elapsed();
    assert!(Duration::from_secs(3) < took && took < Duration::from_secs(9), "{took:?}");
    let faults = nodes.faults();
    assert_eq!(faults[0].node, format!("L2 node {silent}"));
    assert!(faults[0].error.contains("no answer in 4 s"), "{}", faults[0].error);
    // It rests: the next batch does not wait for it.
    let begun = Instant::now();
    nodes.prepare(1, 2, Address::ZERO).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_terms_are_those_of_whoever_asks() {
    let (_honest, url) = Says::honest().start().await;
    let beneficiary = Address::repeat_byte(0xbe);
    let terms = Terms { beneficiary, ..Terms::default() };
    let node = Node::connect(&url, ChainConfig::dev()).await.unwrap().with_terms(terms);
    let alone = node.prepare(1, 2).await.unwrap();
    assert_eq!(alone.statement.beneficiary, beneficiary);
    let (urls, options) = ([url], NodeOptions::default());
    let nodes = Nodes::connect(&urls, ChainConfig::dev(), options, Depth::Latest).await.unwrap();
    assert_eq!(nodes.prepare(1, 2, beneficiary).await.unwrap(), alone);
}

#[tokio::test]
async fn of_several_nodes_the_least_that_any_calls_final_counts() {
    let says = async |finalized| Says { finalized, ..Says::honest() }.start().await;
    let (_one, one) = says(Ok(1)).await;
    let (_two, two) = says(Ok(2)).await;
    let (_none, none) = says(Ok(0)).await;
    let (_ignorant, ignorant) = says(Err("invalid block tag")).await;
    let nowhere = "http://127.0.0.1:1".to_owned();
    let finalized = async |urls: &[&String]| {
        let urls: Vec<_> = urls.iter().map(|url| (*url).clone()).collect();
        let (config, options) = (ChainConfig::dev(), NodeOptions::default());
        let nodes = Nodes::connect(&urls, config, options, Depth::Latest).await.unwrap();
        (nodes.finalized().await.unwrap(), nodes.faults().len())
    };
    assert_eq!(finalized(&[&two]).await, (Some(2), 0));
    assert_eq!(finalized(&[&two, &none, &ignorant, &one]).await, (Some(1), 0));
    assert_eq!(finalized(&[&nowhere, &two]).await, (Some(2), 1), "who is away says nothing");
    assert_eq!(finalized(&[&none, &ignorant]).await, (None, 0), "and that is no fault");
}

#[tokio::test]
async fn a_caller_says_where_the_deposits_of_a_chain_with_a_bridge_start() {
    let (_honest, url) = Says::honest().start().await;
    let config = ChainConfig { bridge: true, ..ChainConfig::dev() };
    let terms = Terms { deposits_start: B256::repeat_byte(7), ..Terms::default() };
    let node = Node::connect(&url, config).await.unwrap().with_terms(terms);
    let statement = node.prepare(1, 2).await.unwrap().statement;
    let found = (statement.deposits_digest, statement.deposits_count);
    assert_eq!(found, deposits(B256::repeat_byte(7), &chain()));
    assert_eq!(found.1, 2);
}

#[tokio::test]
async fn a_node_of_another_chain_among_several_is_refused_at_the_start() {
    let (_other, other) = Says { chain_id: 5, ..Says::honest() }.start().await;
    let (_honest, honest) = Says::honest().start().await;
    let (urls, options) = ([honest, other], NodeOptions::default());
    let nodes = Nodes::connect(&urls, ChainConfig::dev(), options, Depth::Latest);
    let error = nodes.await.unwrap_err();
    assert!(matches!(error, Error::WrongChain { found: 5, .. }), "{error}");
}

#[tokio::test]
async fn a_node_that_no_longer_has_the_state_says_so_in_its_own_words() {
    let (_handle, url) = Says { witness: None, ..Says::honest() }
        .start_with(|module| {
            module
                .register_method("eth_getProof", |_, _, _| {
                    let words = "distance to target block exceeds maximum proof window";
                    Err::<Value, _>(ErrorObjectOwned::owned(-32000, words, None::<()>))
                })
                .unwrap();
        })
        .await;
    let node = Node::connect(&url, ChainConfig::dev()).await.unwrap();
    let error = node.prepare(1, 1).await.unwrap_err();
    assert!(matches!(error, Error::Pruned { method: "eth_getProof", .. }), "{error}");
}

// SOUNDNESS: a proof is tied to the parent's state root before it is used.
#[tokio::test]
async fn proofs_of_another_state_are_refused() {
    let (_handle, url) = Says { witness: None, ..Says::honest() }
        .start_with(|module| {
            module
            .register_method("eth_getProof", |_, says, _| {
                json!({ "accountProof": says.blocks[1].state, "storageProof": [] })
            })
            .unwrap();
        })
        .await;
    let node = Node::connect(&url, ChainConfig::dev()).await.unwrap();
    let error = node.prepare(1, 1).await.unwrap_err();
    assert!(matches!(error, Error::BadProof { block: 0, .. }), "{error}");
}

#[tokio::test]
async fn a_block_may_be_asked_for_as_deep_as_one_likes() {
    let (_handle, url) = Says::honest().start().await;
    let node = Node::connect(&url, ChainConfig::dev()).await.unwrap();
    for (depth, head) in [(Depth::Latest, 2), (Depth::Behind(1), 1), (Depth::Behind(9), 0)] {
        assert_eq!(node.head_at(depth).await.unwrap(), head);
    }
    assert_eq!(node.head_at(Depth::Safe).await.unwrap(), 1);
    assert_eq!(node.head_at(Depth::Finalized).await.unwrap(), 0, "there is none yet");
}
