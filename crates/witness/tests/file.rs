//! Block files, whole and broken.
#![expect(clippy::result_large_err, reason = "as in the crate itself")]

mod support;

use alloy_primitives::{Address, B256};
use expect_test::{Expect, expect};
use program::{ChainConfig, Terms};
use serde_json::{Value, json};
use std::{fs, path::Path};
use support::{chain, deposits, text};
use witness::{BlockFile, Error, Rules, file};

fn write(json: &Value) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.json");
    fs::write(&path, json.to_string()).unwrap();
    (folder, path)
}

fn read(json: &Value) -> Result<BlockFile, Error> {
    let (_folder, path) = write(json);
    file::read(path)
}

#[track_caller]
fn check(error: &Error, expected: Expect) {
    let folder = std::env::temp_dir();
    let text = text(error);
    // The error's text without the name of the temporary folder.
    let text = match text.find(folder.to_str().unwrap()) {
        Some(start) => {
            let end = start + text[start..].find("block.json").unwrap();
            format!("{}{}", &text[..start], &text[end..])
        }
        None => text,
    };
    expected.assert_eq(&text);
}

#[test]
fn a_file_becomes_an_executed_input_compressed_or_not() {
    let known = &chain()[0];
    let (folder, path) = write(&known.file());
    let plain = file::read(&path).unwrap();
    assert_eq!(
        (plain.chain_id(), plain.number(), plain.block_hash()),
        (1337, 1, known.header.hash())
    );
    let prepared = plain.prepare(&ChainConfig::dev()).unwrap();
    assert_eq!(prepared.statement.last_hash, known.header.hash());
    assert_eq!(prepared.statement.post_state_root, known.header.state_root);

    let packed = folder.path().join("block.json.zst");
    fs::write(&packed, zstd::encode_all(fs::File::open(&path).unwrap(), 3).unwrap()).unwrap();
    assert_eq!(file::read(&packed).unwrap().prepare(&ChainConfig::dev()).unwrap(), prepared);

    let half = fs::read(&packed).unwrap();
    fs::write(&packed, &half[..half.len() / 2]).unwrap();
    assert!(matches!(file::read(&packed), Err(Error::Malformed { .. })));
}

#[test]
fn the_statement_has_the_terms() {
    let file = read(&chain()[0].file()).unwrap();
    let start = B256::repeat_byte(7);
    let terms = Terms { beneficiary: Address::repeat_byte(0xbe), deposits_start: start };
    let config = ChainConfig { bridge: true, ..ChainConfig::dev() };
    let rules = Rules { config: &config, terms };
    for prepared in [file.prepare(rules), file::prepare_batch(std::slice::from_ref(&file), rules)] {
        let prepared = prepared.unwrap();
        assert_eq!(prepared.statement.beneficiary, terms.beneficiary);
        let found = (prepared.statement.deposits_digest, prepared.statement.deposits_count);
        assert_eq!(found, deposits(start, &chain()[..1]));
        assert_eq!(witness::inspect(&prepared.input, 0).unwrap().terms, terms);
    }
}

#[test]
fn consecutive_files_are_one_batch() {
    let files: Vec<BlockFile> = chain().iter().map(|known| read(&known.file()).unwrap()).collect();
    let prepared = file::prepare_batch(&files, &ChainConfig::dev()).unwrap();
    assert_eq!((prepared.statement.first_number, prepared.statement.last_number), (1, 2));
    let swapped = [files[1].clone(), files[0].clone()];
    assert!(matches!(
        file::prepare_batch(&swapped, &ChainConfig::dev()),
        Err(Error::Refused { .. })
    ));
}

#[test]
fn a_broken_file_is_named_with_what_is_wrong() {
    let whole = chain()[0].file();
    let error = file::read(Path::new("nowhere/block.json")).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    check(
        &error,
        expect![
            "cannot read block file nowhere/block.json: No such file or directory (os error 2)"
        ],
    );

    let (_folder, path) = write(&whole);
    fs::write(&path, &whole.to_string()[..500]).unwrap();
    check(
        &file::read(&path).unwrap_err(),
        expect![
            "block file block.json is malformed: EOF while parsing a string at line 1 column 500"
        ],
    );

    let broken = |field: &str, value: Value| {
        let mut json = whole.clone();
        json[field] = value;
        read(&json).unwrap_err()
    };
    check(
        &broken("block_rlp", json!("0xc0")),
        expect!["block file block.json is malformed: block_rlp is not a block: input too short"],
    );
    assert!(matches!(broken("number", json!(7)), Error::Malformed { .. }));
    assert!(matches!(broken("block_hash", json!(B256::ZERO)), Error::Malformed { .. }));
    assert!(matches!(broken("witness", json!({})), Error::Malformed { .. }));
}

#[test]
fn a_file_of_another_chain_is_refused() {
    let file = read(&chain()[0].file()).unwrap();
    let error = file.prepare(&ChainConfig::mainnet()).unwrap_err();
    assert!(matches!(error, Error::WrongChain { expected: 1, found: 1337, .. }));
    let mut config = ChainConfig::dev();
    config.chain_id = 1;
    let mut json = chain()[0].file();
    json["chain_id"] = json!(1);
    // SOUNDNESS: the file's word for its chain is not enough either: the signatures bind it.
    assert!(matches!(read(&json).unwrap().prepare(&config), Err(Error::Refused { .. })));
}

#[test]
fn a_witness_of_countless_items_is_refused_before_they_are_kept() {
    let mut json = chain()[0].file();
    json["witness"]["state"] = json!(vec!["0x"; (1 << 20) + 1]);
    let message = text(&read(&json).unwrap_err());
    assert!(message.contains("a list has more than 1048576 items"), "{message}");
}

#[test]
fn a_file_without_its_parent_header_is_incomplete_unless_the_parent_is_assumed() {
    let mut json = chain()[0].file();
    json["witness"]["headers"] = json!([]);
    let file = read(&json).unwrap();
    let error = file.prepare(&ChainConfig::dev()).unwrap_err();
    assert!(matches!(
        error,
        Error::Incomplete { missing: program::Error::MissingParent { number: 1 }, .. }
    ));
    check(
        &error,
        expect![
            "the witness of block 1 in block file block.json is incomplete: the witness is incomplete: it has no header of the parent of block 1"
        ],
    );
    let prepared = file.prepare_assuming_parent(&ChainConfig::dev()).unwrap();
    assert_eq!(prepared.statement.last_hash, chain()[0].header.hash());
    // SOUNDNESS: what rests on an assumption cannot be proven.
    assert!(matches!(program::run(&prepared.input), Err(program::Error::MissingParent { .. })));

    // SOUNDNESS: an assumed state must still be the one that leads to the block's state root.
    json["prev_state_root"] = json!(B256::repeat_byte(1));
    assert!(read(&json).unwrap().prepare_assuming_parent(&ChainConfig::dev()).is_err());
}
