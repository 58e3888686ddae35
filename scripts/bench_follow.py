#!/usr/bin/env python3
"""How long it takes from a block's appearance until its job can be leased, and how fast a server catches up.

    scripts/bench_follow.py PATH/TO/l2-prover [BLOCKS]

Starts a dev node with blocks of about 3M gas and a server beside it, and reads both logs. No client takes part.
"""
import atexit, json, socket, subprocess, sys, tempfile, time
from datetime import datetime

prover, blocks = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Service:
    def __init__(self, *arguments):
        command = [prover, "--json", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        atexit.register(self.stop)

    def events(self, message, count):
        """The times and fields of the next `count` events of this name."""
        found = []
        for line in self.process.stderr:
            event = json.loads(line)
            if event.get("fields", {}).get("message") == message:
                at = datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()
                found.append((at, event["fields"]))
                if len(found) == count:
                    break
        return found

    def stop(self):
        self.process.kill()
        self.process.wait()


def server(node, data, *arguments):
    url = f"127.0.0.1:{node}"
    return Service("server", "--prover", "exec", "--danger-accept-exec", "--rpc-url", f"http://{url}", "--ws-url", f"ws://{url}",
                   "--listen-port", free_port(), "--data-dir", data, *arguments)


with tempfile.TemporaryDirectory() as folder:
    port = free_port()
    node = Service("node", "--node-port", port, "--block-time", "3s", "--traffic-per-block", 40,
                   "--traffic", "transfer,fresh,deploy,token,storage,delegate")
    time.sleep(1)
    follower = server(port, folder + "/a")
    # Without clients, eight jobs are made.
    made = {event["number"]: (at, event["gas_used"]) for at, event in node.events("block made", min(blocks, 8))}
    enqueued = {int(event["blocks"]): at for at, event in follower.events("job enqueued", len(made))}
    times = sorted((enqueued[number] - made[number][0]) * 1000 for number in made)
    gas = sum(gas for _, gas in made.values()) // len(made)
    print(f"{len(times)} blocks of {gas:,} gas on average: from block to leasable job"
          f" {times[len(times) // 2]:.0f} ms (median), {times[-1]:.0f} ms (longest)")
    follower.stop()

    node.events("block made", 16)
    for batch, ways in [(4, []), (4, ["--witness-from", "proofs"])]:
        behind = server(port, folder + f"/{len(ways)}", "--batch-blocks", batch, *ways)
        begun = behind.events("server started", 1)[0][0]
        ended = behind.events("job enqueued", 6)[-1][0]
        way = "eth_getProof" if ways else "debug_executionWitness"
        print(f"catching up by {way}: {6 * batch / (ended - begun):.1f} blocks/s")
        behind.stop()
    node.stop()
