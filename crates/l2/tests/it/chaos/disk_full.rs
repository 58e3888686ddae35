//! The server's disk is full for a while.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Arena, may_mount};

/// A small file system, gone with the test.
struct Disk<'a>(&'a Path);

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Lazily: a process may still end there.
        let _gone = Command::new("umount").args(["-l"]).arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_nothing_for_ever_and_breaks_nothing() {
    let Some(mut arena) = Arena::new("5s", false).await else { return };
    arena.server.as_mut().expect("it runs").kill();
    let place = arena.folder.path().join("small");
    std::fs::create_dir(&place).expect("a folder");
    if !may_mount(&place, "8m", "a full disk") {
        return;
    }
    let disk_place = place.clone();
    let _disk = Disk(&disk_place);
    std::fs::remove_dir_all(arena.data()).expect("the server is gone");
    std::os::unix::fs::symlink(&place, arena.data()).expect("a link");
    // The whole disk is smaller than what is kept free by default.
    let settings = arena.folder.path().join("server.toml");
    let limits = "[limits]\nmin_free_bytes = 300000\nreserved_free_bytes = 100000\n";
    std::fs::write(&settings, limits).expect("a file");
    arena.settings = Some(settings);
    arena.start_server();
    let _client = arena.client("a", &arena.endpoint());
    arena.mine(2).await;
    let some = |status: &protocol::Status| status.counts.proved >= 2;
    crate::common::status_when(&arena.endpoint(), some).await;

    let filler = place.join("filler");
    let fill = || {
        let from = std::fs::File::open("/dev/zero").expect("there are zeroes");
        let mut to =
            std::fs::File::options().create(true).append(true).open(&filler).expect("a file");
        // Until there is no room.
        let _full = std::io::copy(&mut std::io::Read::take(from, 64 << 20), &mut to);
    };
    fill();
    arena.mine(2).await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fill();
        // It is there, and says how it stands.
        let status = crate::common::status_when(&arena.endpoint(), |_| true).await;
        assert!(status.counts.proved >= 2, "{status:?}");
    }
    // A server that is killed while it is full starts again.
    arena.server.as_mut().expect("it runs").kill();
    std::fs::remove_file(&filler).expect("room");
    arena.start_server();
    arena.finish(4).await;
}
