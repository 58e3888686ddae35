//! PostgreSQL is killed and started again while server and client work.

use super::{Arena, pause, rounds};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_loses_nothing_and_its_server_goes_on_by_itself() {
    let Some(mut arena) = Arena::new("5s", true).await else { return };
    let _client = arena.client("a", &arena.endpoint());
    let rounds = rounds(3);
    for round in 0..rounds {
        arena.mine(2).await;
        tokio::time::sleep(pause(round)).await;
        let database = arena.database.as_mut().expect("it has one");
        tokio::task::block_in_place(|| {
            database.kill();
            std::thread::sleep(pause(round + 1));
            database.restart();
        });
    }
    arena.finish(2 * rounds).await;
}
