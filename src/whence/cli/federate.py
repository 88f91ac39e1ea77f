"""`whence federate`: learn one network from many owners' photos, none of which leaves its owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from whence.cli import completion
from whence.cli.output import print_error, print_json, show, show_table
from whence.errors import BadOption

if TYPE_CHECKING:
    from whence.training.federated.plans import Federation

RECIPE = typer.Argument(..., autocompletion=completion.recipes, help="Name of the recipe.")
OUT = typer.Option(..., "--out", help="Folder of the training; one that was stopped goes on.")
RECIPE_SET = typer.Option(
    [], "--set", help="Change a field of the recipe, as optimizer.lr=1e-4. May be repeated."
)
ROUNDS_SET = typer.Option(
    [], "--rounds", help="Change the rounds, as num_rounds=20 or strategy=fedvc. May be repeated."
)
FLOWER = typer.Option(
    None,
    "--flower",
    help="Environment that has Flower. Default: the one that make federated makes.",
)
JSON = typer.Option(False, "--json", help="Print JSON instead of text.")
CACHE = typer.Option(None, "--cache", help="Folder for decoded photos. Default: beside the run.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Learn one network from many owners' photos, which stay where they are.",
    )
    group.command(
        "split", help="Cut a training set into clients, to try federated training on one machine."
    )(split)
    group.command(
        "simulate",
        help=(
            "Train with all clients of a split on this machine; without a split, with one owner "
            "of all."
        ),
    )(simulate)
    group.command("server", help="Serve the rounds of a training to clients elsewhere.")(server)
    group.command("client", help="Take part in a training with photos that stay here.")(client)
    app.add_typer(group, name="federate")


def split(
    data: str = typer.Argument(..., help="Training set with database, queries and positions."),
    out: str = typer.Option(
        ..., "--out", help="CSV file for the clients; JSON of the same name says what the split is."
    ),
    part: str = typer.Option("", "--split", help="Split of the set, for example train."),
    assignments: list[str] = typer.Option(
        [], "--set", help="Change the split, as name=proximity or num_clients=20 or skew=1."
    ),
    as_json: bool = JSON,
) -> int:
    """Prints sizes of the clients and what the split loses."""
    from whence import records
    from whence.data.evaluation_sets import open_set
    from whence.settings import parse_options
    from whence.training.federated.splits import SplitOptions, write_clients
    from whence.training.federated.splits import split as split_set

    options = records.with_values(
        SplitOptions(), parse_options(tuple(assignments)), what="field of the split"
    )
    clients = split_set(open_set(data, split=part), options=options)
    write_clients(out, clients)
    report = clients.report()
    if as_json:
        print_json({"path": out, **report})
        return 0
    rows = []
    for number, queries in enumerate(clients.num_usable.tolist()):
        photos = int((clients.database == number).sum() + (clients.queries == number).sum())
        rows.append((str(number), str(photos), str(queries)))
    show_table(("client", "photos", "queries"), rows, num_names=1)
    lost = report["lost"]
    show(
        f"{out}: {report['clients']} clients by {options.name}, sizes uneven by "
        f"{report['photos']['gini']:.2f} (Gini); "
        f"{lost['queries']} of {lost['of']} queries can no longer be learned from"
    )
    return 0


def simulate(
    recipe: str = RECIPE,
    data: str = typer.Option(
        ..., "--dataset", help="Training set with database, queries and positions."
    ),
    out: str = OUT,
    part: str = typer.Option("", "--split", help="Split of the set, for example train."),
    clients: str = typer.Option("", "--clients", help="CSV that whence federate split wrote."),
    tint: float = typer.Option(0.0, help="Strength of a colour cast of each client's own, 0 to 1."),
    assignments: list[str] = RECIPE_SET,
    rounds: list[str] = ROUNDS_SET,
    cache: str = CACHE,
    flower: str = FLOWER,
    as_json: bool = JSON,
) -> int:
    """Prints the rounds: who took part, who was left out and why, steps and bytes."""
    from whence.training.federated.plans import SimulationPlan
    from whence.training.federated.processes import Flower

    if not 0 <= tint <= 1:
        raise BadOption(f"--tint {tint:g}: from 0 to 1")
    found = Flower.find(flower)
    federation = _federation(recipe, assignments, rounds, out)
    federation.write()
    pixels = str(Path(cache or federation.out.resolve().parent / "pixels"))
    found.simulate(
        federation.out, SimulationPlan(_absolute(data), pixels, part, _absolute(clients), tint)
    )
    return _report(federation, as_json)


def server(
    recipe: str = RECIPE,
    out: str = OUT,
    host: str = typer.Option("0.0.0.0", help="Address to listen on."),
    port: int = typer.Option(9092, help="Port that clients connect to."),
    certificate: str = typer.Option(
        "", "--certificate", help="TLS certificate of this server, PEM."
    ),
    key: str = typer.Option("", "--key", help="Its key, PEM."),
    ca: str = typer.Option(
        "", "--ca", help="Certificate of who signed it, PEM; clients are given it too."
    ),
    insecure: bool = typer.Option(
        False, "--insecure", help="No TLS: what clients learned crosses the network in the clear."
    ),
    assignments: list[str] = RECIPE_SET,
    rounds: list[str] = ROUNDS_SET,
    flower: str = FLOWER,
    as_json: bool = JSON,
) -> int:
    """Serves until the rounds are over; killed, and started again, it goes on from its last
    round."""
    from whence.training.federated.processes import Flower

    if insecure == bool(certificate and key and ca):
        raise BadOption("give --certificate, --key and --ca for TLS, or --insecure to do without")
    federation = _federation(recipe, assignments, rounds, out)
    found = Flower.find(flower)
    federation.write()
    found.serve(
        federation.out,
        host=host,
        port=port,
        secured=_secured(certificate, key, ca),
        on_line=(lambda line: None) if as_json else _say,
    )
    return _report(federation, as_json, has_rounds=as_json)


def client(
    data: str = typer.Option(
        ...,
        "--dataset",
        help="Own photos: folders database and queries with positions. They stay here.",
    ),
    at: str = typer.Option(..., "--server", help="Address of the server, as host:9092."),
    out: str = typer.Option(..., "--out", help="Folder for the client's log and decoded photos."),
    name: str = typer.Option(
        "",
        help="Name that the server's log gives this client. Default: that of the folder of photos.",
    ),
    part: str = typer.Option("", "--split", help="Split of the photos' set."),
    clients: str = typer.Option(
        "", "--clients", help="CSV that whence federate split wrote, to be one client of it."
    ),
    number: int = typer.Option(0, help="Which one."),
    ca: str = typer.Option("", "--ca", help="Certificate of who signed the server's, PEM."),
    insecure: bool = typer.Option(
        False, "--insecure", help="No TLS: what is learned here crosses the network in the clear."
    ),
    flower: str = FLOWER,
) -> int:
    """Works for the server until stopped. What is sent are weights, a name and a number of
    queries."""
    from whence.data.evaluation_sets import open_set
    from whence.training.federated.plans import ClientPlan
    from whence.training.federated.processes import Flower

    if insecure == bool(ca):
        raise BadOption("give --ca for TLS, or --insecure to do without")
    open_set(data, split=part)
    folder = Path(out)
    called = name or Path(data).resolve().name
    plan = ClientPlan(
        called, _absolute(data), str(folder.resolve() / "pixels"), part, _absolute(clients), number
    )
    Flower.find(flower).join(plan, folder=folder, server=at, secured=_secured("", "", ca))
    return 0


def _federation(
    recipe: str, assignments: Sequence[str], rounds: Sequence[str], out: str
) -> Federation:
    from whence import records
    from whence.recipes import get_recipe
    from whence.settings import parse_options
    from whence.training.federated.options import FederatedOptions
    from whence.training.federated.plans import Federation
    from whence.training.recipe import override

    options = records.with_values(
        FederatedOptions(), parse_options(tuple(rounds)), what="field of the rounds"
    )
    return Federation(override(get_recipe(recipe), assignments), options, Path(out))


def _report(federation: Federation, as_json: bool, *, has_rounds: bool = True) -> int:
    from whence.training.federated.plans import FINAL

    log = federation.log()
    path = federation.out / FINAL
    if as_json:
        print_json({"path": str(path), "rounds": log})
        return 0
    if has_rounds:
        for line in log:
            _say(line)
    done = [line for line in log if line.get("is_kept")]
    total = sum(line["bytes_up"] + line["bytes_down"] for line in log if "round" in line)
    who = f"{federation.options.strategy}, {len(federation.clients())} clients"
    show(f"{path}: {len(done)} rounds of {who}, {total / 1e6:.1f} MB sent")
    return 0


def _say(line: Mapping[str, Any]) -> None:
    if "round" not in line:
        print_error(f"{line.get('client', '')}: {line.get('why', '')}")
        return
    loss = f", loss {line['loss']:.4f}" if "loss" in line else ""
    kept = "" if line["is_kept"] else "; too few, not kept"
    show(f"round {line['round'] + 1}: {', '.join(line['clients']) or 'nobody'}{loss}{kept}")
    for one in line["left_out"]:
        print_error(f"round {line['round'] + 1} without {one['client']}: {one['why']}")


def _secured(certificate: str, key: str, ca: str) -> Any:
    from whence.training.federated.processes import Secured

    for file in filter(None, (certificate, key, ca)):
        if not Path(file).is_file():
            raise BadOption(f"{file!r} is not a file")
    return Secured(*(_absolute(file) for file in (certificate, key, ca)))


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if path else ""
