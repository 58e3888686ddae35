//! A node that answers, one that lies, and one that is not there.

mod support;

use alloy_primitives::Bytes;
use expect_test::expect;
use jsonrpsee::{
    RpcModule,
    server::{Server, ServerHandle},
    types::ErrorObjectOwned,
};
use program::ChainConfig;
use serde_json::{Value, json};
use support::{Known, chain, header_object, text};
use witness::{Error, Node};

/// What the fake node says. The methods it does not have are `None`.
struct Says {
    blocks: Vec<Known>,
    chain_id: u64,
    raw_blocks: bool,
    witness: Option<fn(&Known) -> Value>,
}

impl Says {
    fn honest() -> Self {
        Self { blocks: chain(), chain_id: 1337, raw_blocks: true, witness: Some(Known::witness) }
    }

    async fn start(self) -> (ServerHandle, String) {
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
            .register_method("eth_getBlockByNumber", |params, says, _| match number(&params) {
                0 => header_object(&says.blocks[0].parent),
                number => find(says, number).map_or(Value::Null, Known::object),
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
    let without_headers = |block: &Known| {
        let mut witness = block.witness();
        witness.as_object_mut().unwrap().remove("headers");
        witness
    };
    for witness in [backwards as fn(&Known) -> Value, with_header_objects, without_headers] {
        let says = Says { witness: Some(witness), ..Says::honest() };
        assert_eq!(says.prepare(1, 2).await.unwrap(), expected);
    }
    let says = Says { raw_blocks: false, ..Says::honest() };
    assert_eq!(says.prepare(1, 2).await.unwrap(), expected);
}

#[tokio::test]
async fn the_head_and_its_hash_are_told() {
    let blocks = chain();
    let (_handle, url) = Says::honest().start().await;
    let node = Node::connect(&url, ChainConfig::dev()).await.unwrap();
    assert_eq!(node.head().await.unwrap(), 2);
    assert_eq!(node.block_hash(2).await.unwrap(), Some(blocks[1].header.hash()));
    assert_eq!(node.block_hash(3).await.unwrap(), None);
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
    expect!["L2 node http://node does not offer debug_executionWitness: enable its debug API or use another node"]
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
        let hash = alloy_primitives::keccak256(&node);
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
