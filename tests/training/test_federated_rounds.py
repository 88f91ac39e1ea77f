"""Rounds on Flower, in the environment that `make federated` makes: strategies, faults, kills, and
real gRPC with TLS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

pytest.importorskip("torch")

from whence import cli
from whence.data.formats import read_folders
from whence.errors import ModelError
from whence.models.descriptor import load_model
from whence.recipes import get_recipe
from whence.training.federated.options import FederatedOptions, SplitOptions
from whence.training.federated.plans import FINAL, ClientPlan, Federation, SimulationPlan
from whence.training.federated.processes import Flower, Secured
from whence.training.federated.splits import split, write_clients
from whence.training.recipe import override
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world

CHANGES = (
    "optimizer.name=sgd",
    "optimizer.lr=0.01",
    "mining.num_queries=4",
    "mining.num_candidates=12",
)
ROUNDS = {"num_rounds": 1, "clients_per_round": 2, "num_steps": 1, "timeout_s": 120.0}


@pytest.fixture(scope="module")
def flower() -> Flower:
    try:
        return Flower.find()
    except ModelError as error:
        pytest.skip(str(error))


def asked(flower: Flower, script: str) -> Any:
    """What a script prints as JSON, run where Flower is."""
    before = """
        import json
        from pathlib import Path
        import numpy as np
        from flwr.app import Error, Message, MetricRecord, RecordDict
        from whence.training.federated import rounds
        from whence.training.federated.options import FederatedOptions

        def fake(name, size, learn):
            def answers(message):
                if message.metadata.message_type == "query":
                    return rounds.introduce(message, name=name, size=size)
                held = rounds.as_tensors(message.content.array_records["arrays"])
                found = learn({key: value.copy() for key, value in held.items()})
                if isinstance(found, str):
                    return Message(Error(code=0, reason=found), reply_to=message)
                said = {rounds.WEIGHT: size, "one": 1, "num-steps": 1, "loss": 0.5}
                content = {"arrays": rounds.as_record(found), "metrics": MetricRecord(said)}
                return Message(RecordDict(content), reply_to=message)
            return answers

        def run(strategy, clients, start, num_rounds=1, state=None, first=0, **more):
            more = {"clients_per_round": len(clients), **more}
            options = FederatedOptions(strategy, num_rounds=9, num_steps=1, **more)
            lines = []
            made, stateful = rounds.make_strategy(
                options, orders={"recipe": ""}, first=first, note=lines.append
            )
            rounds.load_state(stateful, state or {}, ["w"])
            record = rounds.as_record({"w": np.array(start, np.float32)})
            done = made.start(rounds.InProcess(clients), record, num_rounds=num_rounds)
            found = rounds.as_tensors(done.arrays)["w"].tolist() if done.arrays else start
            return found, lines, rounds.state_of(stateful, ["w"])

        def moving(*delta):
            return lambda held: {"w": held["w"] + np.array(delta, np.float32)}
    """
    environment = {
        **os.environ,
        "FLWR_TELEMETRY_ENABLED": "0",
        "PYTHONPATH": str(Path(cli.__file__).parents[2]),
    }
    text = textwrap.dedent(before) + textwrap.dedent(script)
    done = subprocess.run(
        [str(flower.folder / "bin" / "python"), "-c", text],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_strategies_and_faults(flower: Flower) -> None:
    """Golden values of the note by Flower's own strategies; whose answers do not count; and what a
    kill leaves."""
    found = asked(
        flower,
        """
        pair = [fake("a", 1, moving(1, 0)), fake("b", 3, moving(0, 2))]
        constant = [fake("a", 5, moving(1))]
        out = {
            "fedavg": run("fedavg", pair, [1, 2])[0],
            "fedvc": run("fedvc", pair, [1, 2], seed=4)[0],
            "fedavgm": run("fedavgm", constant, [0], num_rounds=2)[0],
            "fedprox": run("fedprox", pair, [1, 2])[0],
            "twice": run("fedadam", constant, [0], num_rounds=2, server_lr=0.1)[0],
        }
        once, _, state = run("fedavgm", constant, [0])
        out["resumed"] = run("fedavgm", constant, once, state=state, first=1)[0]
        bad = [
            fake("dies", 9, lambda held: "the machine went away"),
            fake("good", 2, moving(4, 4)),
            fake("nan", 9, lambda held: {"w": held["w"] * np.float32("nan")}),
            fake("other", 9, lambda held: {"v": held["w"]}),
            fake("short", 9, lambda held: {"w": held["w"][:1]}),
        ]
        after, lines, _ = run("fedavg", bad, [1, 2])
        out["after"], out["lines"] = after, lines
        out["too few"] = run("fedavg", bad, [1, 2], least_clients=2)[:2]
        options = FederatedOptions("fedvc", clients_per_round=4, num_steps=1)
        drawn = [rounds.draw_clients({1: 90, 2: 5, 3: 5}, number, options) for number in range(200)]
        counts = {node: [row.count(node) for row in drawn] for node in (1, 2, 3)}
        out["shares"] = [float(np.mean(counts[node])) / 4 for node in (1, 2, 3)]
        out["clipped"] = run("fedavg", [fake("a", 1, moving(3, 4))], [0, 0], clip_norm=1.0)[0]
        print(json.dumps(out))
        """,
    )
    assert found["fedavg"] == found["fedprox"] == pytest.approx([1.25, 3.5])
    assert found["fedavgm"] == pytest.approx([2.9])
    assert found["resumed"] == pytest.approx(found["fedavgm"])
    assert found["fedvc"] in ([1.5, 3.0], [2.0, 2.0], [1.0, 4.0]), (
        "each draw counts alike, also one that is drawn twice"
    )
    assert 0 < found["twice"][0] < 1
    assert found["after"] == pytest.approx([5.0, 6.0])
    (line,) = found["lines"]
    assert line["clients"] == ["good"]
    why = {one["client"]: one["why"] for one in line["left_out"]}
    assert why["dies"] == "the machine went away"
    assert "not finite" in why["nan"]
    assert "shapes" in why["other"]
    assert "shapes" in why["short"]
    kept, (line,) = found["too few"]
    assert kept == [1, 2]
    assert line["is_kept"] is False
    assert found["shares"] == pytest.approx([0.9, 0.05, 0.05], abs=0.04)
    assert np.linalg.norm(found["clipped"]) == pytest.approx(1.0, abs=1e-4)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "city"
    render_world(
        folder,
        seed=5,
        preset="tiny",
        options=WorldOptions(capture=CaptureOptions(width=64, height=48)),
        num_workers=1,
    )
    options = SplitOptions("random", 2, min_queries=3, num_negatives=3, positive_m=15)
    write_clients(folder.parent / "clients.csv", split(read_folders(folder), options=options))
    return folder


@pytest.fixture(scope="module")
def simulated(flower: Flower, town: Path) -> Federation:
    made = federation(town.parent / "simulated")
    made.write()
    flower.simulate(
        made.out,
        SimulationPlan(
            str(town), str(town.parent / "pixels"), clients=str(town.parent / "clients.csv")
        ),
    )
    return made


def federation(out: Path, **changes: Any) -> Federation:
    recipe = override(get_recipe("tiny-tuples"), list(CHANGES))
    return Federation(recipe, FederatedOptions(**{**ROUNDS, **changes}), out)


def test_a_simulation_ends_in_a_model(simulated: Federation, town: Path) -> None:
    lines = simulated.log()
    assert [line["clients"] for line in lines] == [["client 000", "client 001"]]
    assert all(line["bytes_up"] == line["bytes_down"] > 0 for line in lines)
    model = load_model(str(simulated.out / FINAL))
    assert "1 rounds of fedavg with 2 clients" in model.card.training_data
    assert np.isfinite(model.describe([read_folders(town).database.file(0)])).all()


def test_the_command_reads_its_options(
    flower: Flower, town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["tiny-tuples", "--out", str(tmp_path / "run")]
    assert cli.run(["federate", "server", *shared]) == 1
    assert "--insecure" in capsys.readouterr().err
    assert (
        cli.run(
            [
                "federate",
                "client",
                "--dataset",
                str(town),
                "--server",
                "x:1",
                "--out",
                str(tmp_path),
                "--ca",
                "no.pem",
            ]
        )
        == 1
    )
    assert "not a file" in capsys.readouterr().err
    assert (
        cli.run(
            ["federate", "simulate", *shared, "--dataset", str(town), "--rounds", "strategy=best"]
        )
        == 1
    )
    assert "strategy" in capsys.readouterr().err
    assert (
        cli.run(
            ["federate", "simulate", *shared, "--dataset", str(town), "--flower", str(tmp_path)]
        )
        == 1
    )
    assert "make federated" in capsys.readouterr().err
    assert (
        cli.run(
            [
                "federate",
                "split",
                str(town),
                "--out",
                str(tmp_path / "c.csv"),
                "--set",
                "num_clients=2",
                "--set",
                "min_queries=50",
            ]
        )
        == 1
    )
    assert "a client needs 50" in capsys.readouterr().err
    more = [
        "--set",
        "min_queries=3",
        "--set",
        "num_negatives=3",
        "--set",
        "positive_m=15",
        "--set",
        "num_clients=2",
        "--json",
    ]
    assert cli.run(["federate", "split", str(town), "--out", str(tmp_path / "c.csv"), *more]) == 0
    assert json.loads(capsys.readouterr().out)["clients"] == 2


def certificates(folder: Path) -> Secured:
    """A signer's certificate, and a certificate for this machine signed by it."""
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for words in (
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test",
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        (
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem "
            "-days 2 -extfile ext"
        ),
    ):
        subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)
    return Secured(*(str(folder / name) for name in ("server.pem", "server.key", "ca.pem")))


@pytest.fixture
def joined(town: Path, tmp_path: Path) -> Iterator[Any]:
    """What starts a client in a process of its own; all are stopped when the test ends."""
    running = []

    def start(plan: ClientPlan, *, server: str, ca: str) -> None:
        words = [
            "federate",
            "client",
            "--dataset",
            plan.data,
            "--clients",
            plan.clients,
            "--number",
            str(plan.number),
        ]
        words += [
            "--name",
            plan.name,
            "--server",
            server,
            "--out",
            str(tmp_path / plan.name),
            "--ca",
            ca,
        ]
        running.append(
            subprocess.Popen([sys.executable, "-m", "whence", *words], stderr=subprocess.DEVNULL)
        )

    yield start
    for process in running:
        process.terminate()
        process.wait(30)


def test_grpc_with_tls_gives_what_a_simulation_gives(
    flower: Flower, town: Path, tmp_path: Path, simulated: Federation, joined: Any
) -> None:
    """Server and two clients as processes of this machine."""
    secured, lines = certificates(tmp_path), list[Mapping[str, Any]]()
    made = federation(tmp_path / "run")
    made.write()
    port = 19000 + os.getpid() % 900
    for number in (0, 1):
        plan = ClientPlan(
            f"client {number:03d}",
            str(town),
            "",
            clients=str(town.parent / "clients.csv"),
            number=number,
        )
        joined(plan, server=f"127.0.0.1:{port}", ca=secured.ca)
    flower.serve(made.out, host="127.0.0.1", port=port, secured=secured, on_line=lines.append)
    rounds = [line for line in lines if "round" in line]
    assert [line["clients"] for line in rounds] == [["client 000", "client 001"]]
    there, here = (load_file(one.out / FINAL) for one in (made, simulated))
    assert all(np.array_equal(there[name], here[name]) for name in there)
