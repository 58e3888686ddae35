//! Properties against alloy-trie, and every way a hostile witness could look.

use super::{node::Kind, *};
use alloc::{collections::BTreeMap, string::ToString, vec};
use alloy_trie::{HashBuilder, Nibbles};
use proptest::{collection::vec as many, prelude::*, sample::Index};

/// Nodes by hash.
type Nodes = BTreeMap<B256, Vec<u8>>;
type Model = BTreeMap<B256, Vec<u8>>;

/// A source that notes what it was asked for.
struct Recorder<'a> {
    nodes: &'a Nodes,
    asked: Vec<B256>,
}

impl<'a> Recorder<'a> {
    const fn new(nodes: &'a Nodes) -> Self {
        Self { nodes, asked: Vec::new() }
    }
}

impl<'a> NodeSource<'a> for Recorder<'a> {
    fn node(&mut self, hash: &B256) -> Option<&'a [u8]> {
        let node = self.nodes.get(hash)?;
        self.asked.push(*hash);
        Some(node)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Get(B256),
    Set(B256, Vec<u8>),
    Remove(B256),
}

/// Keys that differ in few places, so that there are extensions, deep branches and nodes inside their parents.
fn key() -> impl Strategy<Value = B256> {
    (0..4u8, 0..3u8, 0..3u8, 0..6u8, any::<bool>(), any::<[u8; 32]>()).prop_map(
        |(a, b, c, d, far, rest)| {
            let mut key = if far { B256::from(rest) } else { B256::ZERO };
            key[0] = a << 4 | b;
            if !far {
                key[14] = c;
                key[31] = d << 3;
            }
            key
        },
    )
}

/// A key with a value that distinguishes keys with the same ending: in a trie of hashed keys no node occurs
/// twice.
fn entry() -> impl Strategy<Value = (B256, Vec<u8>)> {
    (key(), prop_oneof![many(any::<u8>(), 0..4), many(any::<u8>(), 30..300)]).prop_map(
        |(key, mut value)| {
            value.insert(0, key[0] ^ key[14] << 2);
            (key, value)
        },
    )
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        1 => key().prop_map(Op::Get),
        3 => entry().prop_map(|(key, value)| Op::Set(key, value)),
        3 => key().prop_map(Op::Remove),
    ];
    many(op, 1..30)
}

fn model() -> impl Strategy<Value = Model> {
    many(entry(), 0..60).prop_map(|entries| entries.into_iter().collect())
}

fn reference_root(model: &Model) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in model {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    builder.root()
}

/// All nodes of the trie with these keys.
fn nodes_of(model: &Model) -> (B256, Nodes) {
    let mut trie = Trie::empty();
    for (key, value) in model {
        trie.insert(key, value.clone(), &mut NoNodes).unwrap();
    }
    let mut nodes = Nodes::new();
    let root = trie.root();
    trie.new_nodes(|hash, rlp| drop(nodes.insert(hash, rlp.to_vec())));
    (root, nodes)
}

fn apply<'a>(
    trie: &mut Trie<'a>,
    ops: &[Op],
    source: &mut impl NodeSource<'a>,
) -> Result<Vec<Vec<u8>>, TrieError> {
    let mut seen = Vec::new();
    for op in ops {
        match op {
            Op::Get(key) => seen.push(trie.get(key, source)?.unwrap_or_default().to_vec()),
            Op::Set(key, value) => trie.insert(key, value.clone(), source)?,
            Op::Remove(key) => seen.push(vec![u8::from(trie.remove(key, source)?)]),
        }
    }
    Ok(seen)
}

fn apply_to_model(model: &mut Model, ops: &[Op]) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    for op in ops {
        match op {
            Op::Get(key) => seen.push(model.get(key).cloned().unwrap_or_default()),
            Op::Set(key, value) => drop(model.insert(*key, value.clone())),
            Op::Remove(key) => seen.push(vec![u8::from(model.remove(key).is_some())]),
        }
    }
    seen
}

fn get_from<'n>(nodes: &'n Nodes) -> impl Fn(&B256) -> Option<&'n [u8]> {
    |hash| nodes.get(hash).map(Vec::as_slice)
}

/// The witness of `ops`: the stream with exactly the nodes they ask for.
fn witness(root: B256, nodes: &Nodes, ops: &[Op]) -> (Vec<u8>, Nodes) {
    let mut source = Recorder::new(nodes);
    apply(&mut Trie::from_root(root), ops, &mut source).unwrap();
    let asked: Nodes = source.asked.iter().map(|hash| (*hash, nodes[hash].clone())).collect();
    (storage_stream(root, &asked), asked)
}

/// One trie's stream without storage lengths, as if it were a storage trie's.
fn storage_stream(root: B256, nodes: &Nodes) -> Vec<u8> {
    let mut account = vec![0xf8, 68, 1, 1, 0xa0];
    account.extend_from_slice(root.as_slice());
    account.push(0xa0);
    account.extend_from_slice(&[7; 32]);
    account[1] = u8::try_from(account.len() - 2).unwrap();
    let (outer, mut all) = nodes_of(&Model::from([(B256::ZERO, account)]));
    all.extend(nodes.clone());
    let streams = encode(outer, &get_from(&all)).unwrap();
    if streams.storage.is_empty() { vec![0; 4] } else { streams.storage }
}

fn decode_one(stream: &[u8], root: B256) -> Result<Trie<'_>, TrieError> {
    let span = StorageSpan::of_words(stream.len() / 4);
    if !stream.len().is_multiple_of(4) {
        return Err(TrieError::BadStream { offset: stream.len(), what: "not words" });
    }
    Trie::decode_storage(stream, span, root)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_gives_the_root_that_alloy_gives(model in model(), batches in many(ops(), 1..4)) {
        let mut model = model;
        let (root, mut nodes) = nodes_of(&model);
        prop_assert_eq!(root, reference_root(&model));
        let mut live = Trie::empty();
        for (key, value) in &model {
            live.insert(key, value.clone(), &mut NoNodes).unwrap();
        }
        let mut root = root;
        for ops in &batches {
            let expected = apply_to_model(&mut model, ops);
            prop_assert_eq!(&apply(&mut live, ops, &mut NoNodes).unwrap(), &expected);
            prop_assert_eq!(live.root(), reference_root(&model));
            // The same on top of a database that only ever saw the exported nodes.
            let mut new = Nodes::new();
            {
                let mut trie = Trie::from_root(root);
                prop_assert_eq!(apply(&mut trie, ops, &mut Recorder::new(&nodes)).unwrap(), expected);
                root = trie.root();
                trie.new_nodes(|hash, rlp| drop(new.insert(hash, rlp.to_vec())));
                let mut again = 0;
                trie.new_nodes(|_, _| again += 1);
                prop_assert_eq!(again, 0);
            }
            prop_assert_eq!(root, live.root());
            nodes.extend(new);
        }
        for (key, value) in &model {
            let mut trie = Trie::from_root(root);
            prop_assert_eq!(trie.get(key, &mut Recorder::new(&nodes)).unwrap(), Some(value.as_slice()));
        }
    }

    #[test]
    fn the_nodes_asked_for_are_the_witness_and_each_is_needed(model in model(), ops in ops(), leave_out in any::<Index>()) {
        let (root, nodes) = nodes_of(&model);
        let (stream, asked) = witness(root, &nodes, &ops);
        let mut after = model.clone();
        let expected = apply_to_model(&mut after, &ops);
        let mut trie = decode_one(&stream, root).unwrap();
        prop_assert_eq!(trie.root(), root);
        prop_assert_eq!(apply(&mut trie, &ops, &mut NoNodes).unwrap(), expected);
        prop_assert_eq!(trie.root(), reference_root(&after));

        if !asked.is_empty() {
            let mut fewer = asked;
            let gone = *leave_out.get(&fewer.keys().copied().collect::<Vec<_>>());
            fewer.remove(&gone);
            let stream = storage_stream(root, &fewer);
            let mut trie = decode_one(&stream, root).unwrap();
            match apply(&mut trie, &ops, &mut NoNodes) {
                Err(TrieError::MissingNode { hash, .. }) => prop_assert_eq!(hash, gone),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn a_failed_change_leaves_the_trie_as_it_was(model in model(), ops in ops(), leave_out in any::<Index>(), key in key()) {
        let (root, mut nodes) = nodes_of(&model);
        let complete = nodes.clone();
        if !nodes.is_empty() {
            let gone = *leave_out.get(&nodes.keys().copied().collect::<Vec<_>>());
            nodes.remove(&gone);
        }
        let mut trie = Trie::from_root(root);
        let mut model = model;
        for op in ops.iter().chain([&Op::Remove(key)]) {
            if apply(&mut trie, core::slice::from_ref(op), &mut Recorder::new(&nodes)).is_ok() {
                apply_to_model(&mut model, core::slice::from_ref(op));
            }
            prop_assert_eq!(trie.root(), reference_root(&model));
        }
        for (key, value) in &model {
            prop_assert_eq!(trie.get(key, &mut Recorder::new(&complete)).unwrap(), Some(value.as_slice()));
        }
    }

    // SOUNDNESS: the stream has one form; whatever is changed in it is noticed before it is used.
    #[test]
    fn a_changed_byte_is_refused(model in model(), ops in ops(), at in any::<Index>(), flip in 1..=255u8) {
        let (root, nodes) = nodes_of(&model);
        let (mut stream, _) = witness(root, &nodes, &ops);
        let at = at.index(stream.len());
        stream[at] ^= flip;
        prop_assert!(decode_one(&stream, root).is_err());
    }

    #[test]
    fn a_cut_or_longer_stream_is_refused(model in model(), ops in ops(), cut in any::<Index>()) {
        let (root, nodes) = nodes_of(&model);
        let (mut stream, _) = witness(root, &nodes, &ops);
        let whole_words = 4 * cut.index(stream.len() / 4);
        prop_assert!(whole_words == 0 || decode_one(&stream[..whole_words], root).is_err());
        let cut = cut.index(stream.len());
        prop_assert!(Trie::decode_accounts(&stream[..cut], &[], root).is_err());
        stream.extend_from_slice(&[0; 4]);
        prop_assert!(decode_one(&stream, root).is_err());
        stream.extend_from_slice(&[1; 3]);
        prop_assert!(Trie::decode_accounts(&stream, &[], root).is_err());
    }

    #[test]
    fn noise_does_not_panic(noise in many(any::<u8>(), 0..700), ops in ops(), depth in 0..70usize) {
        let _ = Kind::parse(&noise, depth);
        let _ = Trie::decode_accounts(&noise, &noise, keccak256(&noise));
        let nodes = Nodes::from([(keccak256(&noise), noise.clone())]);
        let _ = encode(keccak256(&noise), &get_from(&nodes));
        let _ = apply(&mut Trie::from_root(keccak256(&noise)), &ops, &mut Recorder::new(&nodes));
    }

    /// Nodes with a right hash and wrong contents: what a made-up root could lead to.
    #[test]
    fn malformed_nodes_do_not_panic(model in model(), ops in ops(), which in any::<Index>(), at in any::<Index>(), new in any::<u8>()) {
        let (root, mut nodes) = nodes_of(&model);
        prop_assume!(!nodes.is_empty());
        let hash = *which.get(&nodes.keys().copied().collect::<Vec<_>>());
        let mut node = nodes[&hash].clone();
        let at = at.index(node.len());
        node[at] = new;
        // As a root, and in its place below the old root.
        let made_up = keccak256(&node);
        nodes.insert(made_up, node.clone());
        let mut trie = Trie::from_root(made_up);
        let _ = apply(&mut trie, &ops, &mut Recorder::new(&nodes));
        trie.root();
        if let Ok(streams) = encode(made_up, &get_from(&nodes)) {
            let _ = Trie::decode_accounts(&streams.accounts, &streams.storage, made_up);
        }
        nodes.insert(hash, node);
        let unchanged = made_up == hash;
        let encoded = encode(root, &get_from(&nodes));
        prop_assert_eq!(encoded.is_ok(), unchanged, "{:?}", encoded);
    }
}

fn key_of(nibbles: &str) -> B256 {
    B256::right_padding_from(&alloy_primitives::hex::decode(nibbles).unwrap())
}

fn account(storage_root: B256) -> Vec<u8> {
    let mut rlp = vec![0xf8, 68, 1, 1, 0xa0];
    rlp.extend_from_slice(storage_root.as_slice());
    rlp.push(0xa0);
    rlp.extend_from_slice(&[7; 32]);
    rlp
}

#[test]
fn an_empty_trie_has_the_empty_root_and_proves_absence() {
    assert_eq!(Trie::empty().root(), alloy_trie::EMPTY_ROOT_HASH);
    let mut trie = Trie::from_root(EMPTY_ROOT);
    assert_eq!(trie.get(&B256::ZERO, &mut NoNodes), Ok(None));
    assert_eq!(trie.remove(&B256::ZERO, &mut NoNodes), Ok(false));
    trie.insert(&B256::ZERO, vec![1], &mut NoNodes).unwrap();
    assert_ne!(trie.root(), EMPTY_ROOT);
    assert_eq!(trie.remove(&B256::ZERO, &mut NoNodes), Ok(true));
    assert_eq!(trie.root(), EMPTY_ROOT);
    let streams = encode(EMPTY_ROOT, &|_: &B256| None).unwrap();
    assert_eq!(streams, Streams { accounts: vec![0; 4], storage: vec![] });
    assert_eq!(
        Trie::decode_accounts(&streams.accounts, &[], EMPTY_ROOT).unwrap().root(),
        EMPTY_ROOT
    );
}

#[test]
fn an_empty_value_is_not_a_removal() {
    let mut trie = Trie::empty();
    assert_eq!(trie.insert(&B256::ZERO, vec![], &mut NoNodes), Err(TrieError::BadValue { len: 0 }));
    let too_long = trie.insert(&B256::ZERO, vec![1; 1 << 16], &mut NoNodes);
    assert_eq!(too_long, Err(TrieError::BadValue { len: 1 << 16 }));
}

#[test]
fn a_missing_node_is_named_and_never_taken_for_absent() {
    let root = B256::repeat_byte(9);
    let error = Trie::from_root(root).get(&B256::ZERO, &mut NoNodes).unwrap_err();
    assert_eq!(
        error.to_string(),
        alloc::format!("trie node {root} at path 0x is missing from the witness")
    );

    let model: Model = (0..=255).map(|i| (B256::repeat_byte(i), vec![i | 1; 40])).collect();
    let (root, nodes) = nodes_of(&model);
    let (stream, _) = witness(root, &nodes, &[Op::Get(B256::repeat_byte(0x12))]);
    let mut trie = decode_one(&stream, root).unwrap();
    assert!(trie.get(&B256::repeat_byte(0x12), &mut NoNodes).unwrap().is_some());
    match trie.get(&B256::repeat_byte(0x13), &mut NoNodes) {
        Err(TrieError::MissingNode { path, .. }) => assert_eq!(path.to_string(), "0x13"),
        other => panic!("{other:?}"),
    }
    match trie.insert(&B256::repeat_byte(0xab), vec![1], &mut NoNodes) {
        Err(TrieError::MissingNode { path, .. }) => assert_eq!(path.to_string(), "0xa"),
        other => panic!("{other:?}"),
    }
}

// SOUNDNESS: without its sibling, the shape of what a removal leaves is anyone's choice.
#[test]
fn a_collapse_without_the_sibling_is_refused() {
    let (kept, gone) = (key_of("11"), key_of("12"));
    let model =
        Model::from([(kept, vec![1; 40]), (gone, vec![2; 40]), (key_of("20"), vec![3; 40])]);
    let (root, nodes) = nodes_of(&model);
    let (stream, _) = witness(root, &nodes, &[Op::Get(gone)]);
    let mut trie = decode_one(&stream, root).unwrap();
    match trie.remove(&gone, &mut NoNodes) {
        Err(TrieError::MissingNode { path, .. }) => assert_eq!(path.to_string(), "0x11"),
        other => panic!("{other:?}"),
    }
    assert_eq!(trie.root(), root);
    // With the sibling in the source it works.
    assert_eq!(trie.remove(&gone, &mut Recorder::new(&nodes)), Ok(true));
    let left = Model::from([(kept, vec![1; 40]), (key_of("20"), vec![3; 40])]);
    assert_eq!(trie.root(), reference_root(&left));
}

// SOUNDNESS: a source is not believed either.
#[test]
fn a_source_that_lies_is_refused() {
    let (root, nodes) =
        nodes_of(&Model::from([(B256::ZERO, vec![1; 40]), (key_of("f0"), vec![2; 40])]));
    let lies: Nodes = nodes
        .keys()
        .map(|hash| (*hash, nodes[&root].iter().map(|byte| byte ^ 1).collect()))
        .collect();
    let error = Trie::from_root(root).get(&B256::ZERO, &mut Recorder::new(&lies)).unwrap_err();
    assert_eq!(error, TrieError::HashMismatch { expected: root });
}

#[test]
fn storage_tries_are_opened_lazily_and_keep_their_place() {
    let slots: Vec<Model> =
        (0..3u8).map(|i| (0..=i).map(|j| (keccak256([i, j]), vec![j + 1; 33])).collect()).collect();
    let (mut all, mut accounts) = (Nodes::new(), Model::new());
    let roots: Vec<B256> = slots
        .iter()
        .map(nodes_of)
        .map(|(root, nodes)| {
            all.extend(nodes);
            root
        })
        .collect();
    let keys: Vec<B256> = (0..4u8).map(keccak_of).collect();
    for (key, root) in keys.iter().zip(roots.iter().chain([&EMPTY_ROOT])) {
        accounts.insert(*key, account(*root));
    }
    let (root, nodes) = nodes_of(&accounts);
    all.extend(nodes);
    // The second account's storage is not revealed.
    all.remove(&roots[1]);
    let Streams { accounts, mut storage } = encode(root, &get_from(&all)).unwrap();
    let open = |storage: &[u8]| {
        let mut trie = Trie::decode_accounts(&accounts, storage, root).unwrap();
        let values: Vec<_> = keys
            .iter()
            .zip(&roots)
            .map(|(key, storage_root)| {
                // An update does not lose the place.
                trie.insert(key, account(B256::ZERO), &mut NoNodes).unwrap();
                let (_, span) = trie.get_account(key, &mut NoNodes).unwrap().unwrap();
                let slot = keccak256([
                    u8::try_from(keys.iter().position(|k| k == key).unwrap()).unwrap(),
                    0,
                ]);
                Trie::decode_storage(storage, span, *storage_root)?
                    .get(&slot, &mut NoNodes)
                    .map(|v| v.unwrap().to_vec())
            })
            .collect();
        values
    };
    let values = open(&storage);
    assert_eq!(values[0], Ok(vec![1; 33]));
    assert!(
        matches!(values[1], Err(TrieError::MissingNode { hash, .. }) if hash == roots[1]),
        "{values:?}"
    );
    assert_eq!(values[2], Ok(vec![1; 33]));

    // SOUNDNESS: every byte of the section belongs to a trie that is checked when it is opened.
    for at in 0..storage.len() {
        storage[at] ^= 0x40;
        let values = open(&storage);
        assert!(values[0].is_err() || values[2].is_err(), "byte {at}");
        storage[at] ^= 0x40;
    }
    let mut more = storage.clone();
    more.extend_from_slice(&[0; 4]);
    for section in [&more[..], &storage[..storage.len() - 4], &[]] {
        assert!(matches!(
            Trie::decode_accounts(&accounts, section, root),
            Err(TrieError::BadStream { .. })
        ));
    }
    // SOUNDNESS: a storage trie stands under the root that its account names, and no other.
    let mut trie = Trie::decode_accounts(&accounts, &storage, root).unwrap();
    let (_, span) = trie.get_account(&keys[0], &mut NoNodes).unwrap().unwrap();
    assert_eq!(
        Trie::decode_storage(&storage, span, roots[2]).unwrap_err(),
        TrieError::HashMismatch { expected: roots[2] }
    );
    // SOUNDNESS: two lengths that were shifted against each other add up, but do not open.
    assert!(Trie::decode_storage(&storage[4..], span, roots[0]).is_err());
}

fn keccak_of(byte: u8) -> B256 {
    keccak256([byte])
}

/// A node that `check` refuses, although its hash is right.
fn refused(rlp: &[u8]) -> &'static str {
    let nodes = Nodes::from([(keccak256(rlp), rlp.to_vec())]);
    match Trie::from_root(keccak256(rlp)).get(&B256::ZERO, &mut Recorder::new(&nodes)) {
        Err(TrieError::BadNode { what }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nodes_that_no_trie_of_hashed_keys_has_are_refused() {
    let list = |payload: &[u8]| {
        let mut rlp = vec![0xf9];
        rlp.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        rlp.extend_from_slice(payload);
        rlp
    };
    let branch = |children: usize, value: &[u8]| {
        let mut payload = Vec::new();
        for i in 0..16 {
            payload.extend_from_slice(if i < children { &[0xa0; 33] } else { &[0x80; 1] });
        }
        payload.extend_from_slice(value);
        list(&payload)
    };
    assert_eq!(refused(&branch(16, &[5])), "a branch holds a value");
    assert_eq!(refused(&branch(15, &[0x80, 0x80])), "a branch holds a value");
    assert_eq!(refused(&[0xc1, 0x80]), "not one RLP list");
    let mut one = vec![0xf0 + 1, 0xa0];
    one.extend_from_slice(&[1; 32]);
    one.extend_from_slice(&[0x80; 16]);
    assert_eq!(refused(&one), "a branch has one child or is too deep");
    let mut leaf = vec![0xe3, 0xa1, 0x20];
    leaf.extend_from_slice(&[0; 32]);
    leaf.push(0x80);
    assert_eq!(refused(&leaf), "a leaf without a value");
    assert_eq!(refused(&[0xc3, 0x20, 0x81, 0x90]), "a leaf's key is not 32 bytes long");
    assert_eq!(refused(&[0xc3, 0x21, 0x81, 0x90]), "not a path");
    assert_eq!(refused(&[0xc2, 0x00, 0x80]), "an extension is empty or too long");
    assert_eq!(refused(&[0xc2, 0x11, 0x80]), "not a reference in an extension");
}

#[test]
fn nodes_that_name_each_other_often_do_not_fill_the_memory() {
    // 60 levels of branches, each of which has the next one 16 times.
    let mut nodes = Nodes::new();
    let mut next = B256::repeat_byte(1);
    for _ in 0..60 {
        let mut rlp = vec![0xf9, 0x02, 0x11];
        (0..16).for_each(|_| rlp.extend([0xa0].iter().chain(next.as_slice())));
        rlp.push(0x80);
        next = keccak256(&rlp);
        nodes.insert(next, rlp);
    }
    let streams = encode(next, &get_from(&nodes)).unwrap();
    assert!(streams.accounts.len() < 60 * 600, "{}", streams.accounts.len());
    Trie::decode_accounts(&streams.accounts, &streams.storage, next).unwrap();
}

/// Rewrites the stream of a two-leaf trie by hand and expects a refusal.
#[test]
fn a_stream_in_another_form_is_refused() {
    let (root, nodes) =
        nodes_of(&Model::from([(B256::ZERO, vec![1; 40]), (key_of("f0"), vec![2; 40])]));
    let all = storage_stream(root, &nodes);
    assert!(decode_one(&all, root).is_ok());
    let check = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut stream = all.clone();
        change(&mut stream);
        assert!(matches!(decode_one(&stream, root), Err(TrieError::BadStream { .. })), "{name}");
    };
    // The root is a branch: 15 empty slots... its mask is in the upper half of the second word.
    assert_eq!(all[6..8], [0x01, 0x80]);
    check("the mask names an absent child", &|stream| stream[6] |= 2);
    check("the mask names one child less", &|stream| stream[7] = 0);
    check("no node", &|stream| stream[0] = 0);
    check("more nodes than there are", &|stream| stream[0] += 1);
    check("so many nodes that they could not fit", &|stream| stream[3] = 0xff);
    check("a node longer than the stream", &|stream| stream[5] = 0xff);
    check("a leaf with children", &|stream| {
        let leaf = 8 + usize::from(stream[4]).next_multiple_of(4);
        stream[leaf + 2] = 1;
    });
    let padding = 8 + usize::from(all[4]);
    assert!(!padding.is_multiple_of(4));
    check("padding that is not zero", &|stream| stream[padding] = 1);
    assert!(decode_one(&all, EMPTY_ROOT).is_err());
}

#[test]
fn a_path_reads_as_its_nibbles() {
    let path = Path::suffix(&key_of("1234"), 1).prefix(3);
    assert_eq!((path.to_string(), path.len()), ("0x234".into(), 3));
    assert_eq!(path.join(&Path::single(15)), Path::suffix(&key_of("234f"), 0).prefix(4));
}

#[test]
fn a_full_branch_is_read_like_any_other() {
    let mut raw = vec![0xf9, 0x02, 0x11];
    for index in 0..16 {
        raw.push(0xa0);
        raw.extend([index; 32]);
    }
    raw.push(0x80);
    let node = Node::verified(&raw, &keccak256(&raw), 63).unwrap();
    for index in 0..16 {
        let byte = u8::try_from(index).unwrap();
        assert_eq!(node.unopened_hash(index), Some(&B256::repeat_byte(byte)));
    }
    assert!(Kind::parse(&raw, 64).is_err());
    for at in [0, 1, 2, 531].into_iter().chain((0..16).map(|index| 3 + 33 * index)) {
        let mut changed = raw.clone();
        changed[at] ^= 1;
        assert!(Kind::parse(&changed, 0).is_err(), "byte {at}");
    }
}
