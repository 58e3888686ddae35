//! Uploads in any pieces: kept exactly if they hash to their name, fit, and arrive whole.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use protocol::ArtifactId;
use server::artifacts::{ArtifactError, Artifacts, Place, Sharing};
use std::sync::LazyLock;

const LIMIT: u64 = 1_000;

#[derive(Arbitrary, Debug)]
struct Upload {
    /// Pieces; `None` is a broken connection.
    pieces: Vec<Option<Vec<u8>>>,
    /// Named by another hash than its own.
    lies: bool,
}

static ROOT: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

libfuzzer_sys::fuzz_target!(|upload: Upload| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let artifacts = Artifacts::open(&Place::Folder(ROOT.path().into(), Sharing::Alone), LIMIT).unwrap();
    let broken = upload.pieces.iter().any(Option::is_none);
    let whole: Vec<u8> = upload.pieces.iter().flatten().flatten().copied().collect();
    let id = match upload.lies {
        true => ArtifactId::of(b"another artifact"),
        false => ArtifactId::of(&whole),
    };
    let pieces = upload
        .pieces
        .into_iter()
        .map(|piece| piece.map(Bytes::from).ok_or("the connection broke"));
    runtime.block_on(async {
        let received = artifacts.receive(id, futures::stream::iter(pieces)).await;
        match received {
            Ok(artifact) => {
                assert!(!broken && !upload.lies && whole.len() as u64 <= LIMIT);
                assert_eq!((artifact.sha256, artifact.len), (id, whole.len() as u64));
                assert_eq!(artifacts.read(id).await.unwrap(), whole);
            }
            Err(ArtifactError::HashMismatch { .. }) => assert!(upload.lies),
            Err(ArtifactError::TooLarge { .. }) => assert!(whole.len() as u64 > LIMIT),
            Err(ArtifactError::Interrupted(_)) => assert!(broken),
            Err(other) => panic!("{other}"),
        }
    });
});
