//! The server and one of its clients are killed, again and again, whatever they are doing.

use super::{Arena, pause, rounds};

async fn check(database: bool) {
    let Some(mut arena) = Arena::new("2s", database).await else { return };
    let endpoint = arena.endpoint();
    let mut clients: Vec<_> =
        ["a", "b", "c"].iter().map(|name| (*name, arena.client(name, &endpoint))).collect();
    let rounds = rounds(8);
    for round in 0..rounds {
        arena.mine(2).await;
        tokio::time::sleep(pause(round)).await;
        if round % 2 == 0 {
            arena.kill_server();
        } else {
            let turn = usize::try_from(round / 2).expect("it is small") % clients.len();
            let (name, client) = &mut clients[turn];
            client.kill();
            *client = arena.client(name, &endpoint);
        }
    }
    arena.finish(2 * rounds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_clients_killed_at_any_time_prove_every_block_once() {
    check(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_clients_killed_at_any_time_prove_every_block_once_on_postgresql() {
    check(true).await;
}
