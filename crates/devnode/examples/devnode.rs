//! Runs a dev node until Ctrl-C: `cargo run -p devnode --example devnode -- [PORT] [BLOCK_SECONDS] [TRAFFIC_PER_BLOCK]`.
//!
//! Without a second argument it makes a block for each transaction.
#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use devnode::{Config, DevNode, Mining, TrafficConfig};
use std::{error::Error, time::Duration};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = Config::default();
    if let Some(port) = arguments.next() {
        config.listen.set_port(port.parse()?);
    }
    if let Some(seconds) = arguments.next() {
        let period = Duration::from_secs_f64(seconds.parse()?);
        config.mining = Mining::Interval { period, empty_blocks: true };
    }
    if let Some(per_block) = arguments.next() {
        config.traffic =
            Some(TrafficConfig { per_block: per_block.parse()?, ..Default::default() });
    }
    let node = DevNode::start(config).await?;
    println!("listening on {}, chain id {}", node.url(), node.chain_config().chain_id);
    for (address, key) in devnode::accounts::addresses().iter().zip(devnode::accounts::KEYS) {
        println!("{address} {key}");
    }
    tokio::signal::ctrl_c().await?;
    node.stop().await;
    Ok(())
}
