//! How far revm's and alloy-evm's Amsterdam agrees with Ethereum's official fixtures of Amsterdam.
//!
//! The program refuses these blocks, so none of its rules take part. `tests/amsterdam.txt` says what was found;
//! `UPDATE_EXPECT=1` writes it anew, after an update of the libraries for example. docs/conformance.md explains it.
#![expect(clippy::print_stdout, reason = "how many blocks were executed is told with --no-capture")]

mod libraries;
mod support;

use alloy_consensus::Header;
use alloy_eips::eip7928::{BlockAccessList, compute_block_access_list_hash};
use alloy_primitives::{B256, Bytes};
use conformance::{Network, fixture, source};
use expect_test::expect_file;
use libraries::{Accounts, Before, Results, Rules, apply, execute, state_root};
use program::consensus::{DecodedBlock, Violation, check_header};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt::Write as _};

#[derive(Deserialize)]
struct Test {
    config: fixture::Config,
    #[serde(rename = "genesisRLP")]
    genesis_rlp: Bytes,
    pre: Accounts,
    blocks: Vec<Block>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    rlp: Bytes,
    block_access_list: BlockAccessList,
}

/// What was found for the tests of one folder, or of all.
#[derive(Default)]
struct Row {
    tests: usize,
    agree: usize,
    blocks: usize,
    /// How many blocks agree in each field.
    fields: BTreeMap<&'static str, usize>,
    /// The first difference of each test that has one.
    differences: Vec<String>,
}

#[test]
fn the_libraries_agree_with_the_official_amsterdam_as_far_as_the_table_says() {
    let name = "eest-zkevm-v0.3.3.tar.zst";
    let Some(archive) = support::archive(name, "161 official tests of Amsterdam") else { return };
    let mut tests = Vec::new();
    source::read(&[archive], &mut |file| {
        let folder = file.name.rsplit('/').nth(1).unwrap().to_owned();
        let file: BTreeMap<String, Test> = serde_json::from_slice(&file.json).unwrap();
        tests.extend(file.into_iter().map(|(name, test)| (folder.clone(), name, test)));
        true
    })
    .unwrap();
    tests.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    let mut text = String::new();
    for (title, rules, shown) in [
        ("Amsterdam as the libraries were released with it", Rules::Amsterdam, 1),
        ("With the costs and the EIPs of the fixtures' Amsterdam", Rules::BalDevnet3, usize::MAX),
    ] {
        let (mut rows, mut all) = (BTreeMap::<&str, Row>::new(), Row::default());
        for (folder, name, test) in &tests {
            let found = differences(rules, test);
            rows.entry(folder).or_default().add(name, &found);
            all.add(name, &found);
        }
        writeln!(text, "## {title}\n").unwrap();
        for (folder, row) in &rows {
            row.write(folder, shown, &mut text);
        }
        all.write("all", 0, &mut text);
        text.push('\n');
        println!("{title}: {} of {} official tests agree", all.agree, all.tests);
        assert_eq!((all.tests, all.blocks), (161, 234), "tests are missing");
    }
    expect_file!["amsterdam.txt"].assert_eq(text.trim_end());
}

/// Whether the comparison itself is right: on a fork that the libraries know well, nothing may differ.
#[test]
fn the_libraries_agree_with_official_tests_of_osaka() {
    let name = "eest-v5.4.0-blockchain_tests.tar.zst";
    let Some(archive) = support::archive(name, "official tests of Osaka") else { return };
    let (mut files, mut blocks) = (0, 0);
    source::read(&[archive], &mut |file| {
        files += 1;
        if files % 20 != 0 {
            return true;
        }
        for (name, fixture) in fixture::parse(&file).unwrap() {
            let first = &fixture.blocks[0];
            if fixture.network != "Osaka" || first.expect_exception.is_some() {
                continue;
            }
            let config = Network::parse(&fixture.network).unwrap().config(&fixture.config).unwrap();
            let genesis = DecodedBlock::decode(&fixture.genesis_rlp).unwrap().header;
            let hashes = BTreeMap::from([(genesis.number, genesis.hash())]);
            let before = Before { accounts: &fixture.pre, hashes: &hashes };
            let block = DecodedBlock::decode(&first.rlp).unwrap();
            let mut found =
                difference(&execute(Rules::OfConfig, &config, before, &block), &block.header);
            found.retain(|(field, _)| *field != "blockAccessListHash");
            assert_eq!(found, [], "{name}");
            blocks += 1;
        }
        true
    })
    .unwrap();
    println!("the libraries agree with {blocks} official blocks of Osaka");
    assert!(blocks > 200, "only {blocks} blocks were executed");
}

/// The fields of each block that differ, and how. Each block is executed on the official state before it, whatever
/// became of its predecessor.
fn differences(rules: Rules, test: &Test) -> Vec<Vec<(&'static str, String)>> {
    let config = Network::parse("BPO2").unwrap().config(&test.config).unwrap();
    let mut accounts = test.pre.clone();
    let genesis = DecodedBlock::decode(&test.genesis_rlp).unwrap().header;
    assert_eq!(state_root(&accounts), genesis.state_root);
    let mut hashes = BTreeMap::from([(genesis.number, genesis.hash())]);
    let mut found = Vec::new();
    for block in &test.blocks {
        let decoded = DecodedBlock::decode(&block.rlp).unwrap();
        let header = &decoded.header;
        let refusal = Violation::ForkField { field: "blockAccessListHash", expected: false };
        assert_eq!(check_header(&config, &decoded), Err(refusal));
        let before = Before { accounts: &accounts, hashes: &hashes };
        found.push(difference(&execute(rules, &config, before, &decoded), header));
        apply(&block.block_access_list, &mut accounts);
        // The fixture's own list leads to the fixture's own state, or the next block would start from a wrong one.
        assert_eq!(
            (state_root(&accounts), compute_block_access_list_hash(&block.block_access_list)),
            (header.state_root, header.block_access_list_hash.unwrap_or(B256::ZERO)),
        );
        hashes.insert(header.number, header.hash());
    }
    found
}

fn difference(found: &Result<Results, String>, header: &Header) -> Vec<(&'static str, String)> {
    let expected = Results::of(header).fields();
    match found {
        Err(reason) => expected.map(|(field, _)| (field, format!("refused: {reason}"))).into(),
        Ok(found) => found
            .fields()
            .into_iter()
            .zip(expected)
            .filter(|(found, expected)| found != expected)
            .map(|((field, found), (_, expected))| {
                (field, format!("{field} is {found}, the header says {expected}"))
            })
            .collect(),
    }
}

impl Row {
    fn add(&mut self, name: &str, found: &[Vec<(&'static str, String)>]) {
        self.tests += 1;
        self.blocks += found.len();
        for block in found {
            for (field, _) in Results::default().fields() {
                let agrees = block.iter().all(|(other, _)| *other != field);
                *self.fields.entry(field).or_default() += usize::from(agrees);
            }
        }
        match found.iter().enumerate().find_map(|(index, block)| Some((index, block.first()?))) {
            None => self.agree += 1,
            Some((index, (_, difference))) => {
                let test = name.rsplit("::").next().unwrap_or(name);
                self.differences.push(format!("{test}, block {}: {difference}", index + 1));
            }
        }
    }

    /// Writes the row, and as many of its differences.
    fn write(&self, name: &str, shown: usize, text: &mut String) {
        writeln!(text, "{name}: {} of {} tests agree", self.agree, self.tests).unwrap();
        write!(text, "    of {} blocks:", self.blocks).unwrap();
        for (field, _) in Results::default().fields() {
            write!(text, " {field} {}", self.fields[field]).unwrap();
        }
        text.push('\n');
        for difference in self.differences.iter().take(shown) {
            writeln!(text, "    {difference}").unwrap();
        }
    }
}
