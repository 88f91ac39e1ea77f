"""Rounds on Flower: its strategies and transport, our clients. Runs where Flower is, in an
environment of its own.

Around each strategy of Flower's stands who is asked (drawn by the seed, in proportion to size for
`fedvc`) and whose answer counts: one with an error, numbers that are not finite, other shapes, or
none in time is left out of the round and named in the log.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    Strategy,
)
from flwr.supercore.task_identity import TaskIdentity

from whence.errors import WhenceError
from whence.runtime import random_stream
from whence.training.federated.options import FederatedOptions
from whence.training.federated.plans import Work

if TYPE_CHECKING:
    from whence.training.federated.local import LocalWork

_DRAW, _POLL_S = 73, 1.0
WEIGHT = "num-queries"
"""What answers are weighted by; all alike in `fedvc` and under differential privacy."""
CLIENT = "client"
State = dict[str, np.ndarray]


class _Chosen:
    """A grid of the clients of a round alone: whom Flower's strategies then ask."""

    def __init__(self, grid: Grid, nodes: Sequence[int]) -> None:
        self._grid, self._nodes = grid, nodes

    def get_node_ids(self) -> list[int]:
        return list(self._nodes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)


class Rounds:
    """What stands around a strategy of Flower's; mixed in before it. `prepare` first."""

    def prepare(
        self,
        options: FederatedOptions,
        *,
        orders: Mapping[str, Any],
        first: int,
        note: Callable[[dict[str, Any]], None],
    ) -> None:
        """`orders` go to the clients with every round; `first` is the number of the first round;
        `note` takes the log."""
        self.options, self.orders, self.first, self.note = options, dict(orders), first, note
        self.members: dict[int, tuple[str, int]] = {}
        self.strangers: set[int] = set()
        self.drawn_nodes: list[int] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.num_bytes = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the clients that are drawn for the round."""
        number = self.first + server_round - 1
        self._gather(grid, is_first=server_round == 1)
        # Some strategies compute in float64; what travels stays as the network has it.
        arrays = as_record(
            {name: value.astype(np.float32) for name, value in as_tensors(arrays).items()}
        )
        self.drawn_nodes = draw_clients(
            {node: size for node, (_, size) in self._sorted()}, number, self.options
        )
        self.shapes = {name: tuple(array.numpy().shape) for name, array in arrays.items()}
        self.num_bytes = sum(array.numpy().nbytes for array in arrays.values())
        for name, value in {
            **self.orders,
            "round": number,
            "num-rounds": self.options.num_rounds,
        }.items():
            config[name] = value
        config["num-steps"] = self.options.num_steps
        config["is-uneven"] = self.options.is_uneven
        chosen: Any = _Chosen(grid, self.drawn_nodes)
        random.seed(number)
        messages: Iterable[Message] = super().configure_train(server_round, arrays, config, chosen)  # type: ignore[misc]
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The strategy's mean of the answers that count, by name of the client."""
        good, out = [], []
        missing = list(self.drawn_nodes)
        for reply in replies:
            node = reply.metadata.src_node_id
            if node not in self.drawn_nodes:
                # Flower answers in its own name for a node that is gone, which stays among the
                # missing.
                continue
            if node in missing:
                missing.remove(node)
            why = self._fault(reply)
            if why:
                out.append({"client": self._name(node), "why": why})
            else:
                good.append(reply)
        out += [
            {"client": self._name(node), "why": f"no answer in {self.options.timeout_s:g} s"}
            for node in missing
        ]
        for node in missing:
            self.members.pop(node, None)
        good.sort(key=lambda reply: self._name(reply.metadata.src_node_id))
        number = self.first + server_round - 1
        record: dict[str, Any] = {
            "round": number,
            "clients": [self._name(reply.metadata.src_node_id) for reply in good],
            "left_out": sorted(out, key=lambda one: one["client"]),
            "bytes_down": self.num_bytes * len(self.drawn_nodes),
            "bytes_up": self.num_bytes * len(good),
        }
        if len(good) < self.options.least_clients:
            self.note({**record, "is_kept": False})
            return None, None
        metrics = [next(iter(reply.content.metric_records.values())) for reply in good]
        record["steps"] = int(sum(float(one["num-steps"]) for one in metrics))  # type: ignore[arg-type]
        record["loss"] = float(np.mean([float(one["loss"]) for one in metrics]))  # type: ignore[arg-type]
        self.note({**record, "is_kept": True})
        found: tuple[ArrayRecord | None, MetricRecord | None] = super().aggregate_train(  # type: ignore[misc]
            server_round, good
        )
        return found

    def _sorted(self) -> list[tuple[int, tuple[str, int]]]:
        return sorted(self.members.items(), key=lambda item: item[1][0])

    def _name(self, node: int) -> str:
        return self.members[node][0] if node in self.members else f"node {node}"

    def _gather(self, grid: Grid, *, is_first: bool) -> None:
        """Meet the clients that are there. The first round waits for as many as a round asks, all
        wait for the least."""
        self._meet(grid)
        ends = time.monotonic() + self.options.timeout_s
        wanted = self.options.clients_per_round if is_first else self.options.least_clients
        while not isinstance(grid, InProcess) and len(self.members) < wanted:
            if time.monotonic() > ends and len(self.members) >= self.options.least_clients:
                return
            time.sleep(_POLL_S)
            self._meet(grid)

    def _meet(self, grid: Grid) -> None:
        """Ask clients that are new for their name and size; those that left are forgotten."""
        there = list(grid.get_node_ids())
        self.members = {node: member for node, member in self.members.items() if node in there}
        new = [node for node in there if node not in self.members and node not in self.strangers]
        record = RecordDict({"config": ConfigRecord(dict(self.orders))})
        messages = [
            Message(content=record, dst_node_id=node, message_type=MessageType.QUERY)
            for node in new
        ]
        for reply in (
            grid.send_and_receive(messages, timeout=self.options.timeout_s) if messages else []
        ):
            if reply.has_error():
                self.strangers.add(reply.metadata.src_node_id)
                self.note(
                    {"client": f"node {reply.metadata.src_node_id}", "why": str(reply.error.reason)}
                )
                continue
            found = reply.content
            name = str(found.config_records[CLIENT]["name"])
            self.members[reply.metadata.src_node_id] = (
                name,
                int(found.metric_records["size"][WEIGHT]),
            )  # type: ignore[arg-type]

    def _fault(self, reply: Message) -> str:
        """Why an answer does not count; empty for one that does."""
        if reply.has_error():
            return str(reply.error.reason) or "it failed"
        arrays = list(reply.content.array_records.values())
        if (
            len(arrays) != 1
            or {name: tuple(array.numpy().shape) for name, array in arrays[0].items()}
            != self.shapes
        ):
            return "tensors of other names or shapes than were asked for"
        if not all(np.isfinite(array.numpy()).all() for array in arrays[0].values()):
            return "numbers that are not finite"
        return ""


def draw_clients(sizes: Mapping[int, int], number: int, options: FederatedOptions) -> list[int]:
    """The clients of a round, by the seed and the round alone; `fedvc` may draw one twice, who then
    works twice.

    Sizes are by client, in the order that draws go by.
    """
    stream, nodes = random_stream(options.seed, _DRAW, number), list(sizes)
    if not nodes:
        return []
    if options.strategy == "fedvc":
        shares = np.array([sizes[node] for node in nodes], float)
        chosen = stream.choice(len(nodes), options.clients_per_round, p=shares / shares.sum())
    else:
        chosen = stream.permutation(len(nodes))[: options.clients_per_round]
    return [nodes[row] for row in np.sort(chosen)]


_BASES: Mapping[str, type[Strategy]] = {
    "fedavg": FedAvg,
    "fedvc": FedAvg,
    "fedavgm": FedAvgM,
    "fedprox": FedProx,
    "fedadam": FedAdam,
}


def make_strategy(
    options: FederatedOptions,
    *,
    orders: Mapping[str, Any],
    first: int,
    note: Callable[[dict[str, Any]], None],
) -> tuple[Strategy, Any]:
    """The strategy, and what of it has a state: the same, or within its differential privacy."""
    rate = options.server_lr or (0.001 if options.strategy == "fedadam" else 1.0)
    more: dict[str, dict[str, float]] = {
        "fedavgm": {"server_learning_rate": rate, "server_momentum": options.server_momentum},
        "fedprox": {"proximal_mu": options.proximal_mu},
        "fedadam": {
            "eta": rate,
            "beta_1": options.beta1,
            "beta_2": options.beta2,
            "tau": options.tau,
        },
    }
    made: Any = type("Joined", (Rounds, _BASES[options.strategy]), {})(
        fraction_train=1.0,
        fraction_evaluate=0.0,
        min_train_nodes=1,
        min_evaluate_nodes=0,
        min_available_nodes=1,
        weighted_by_key="one" if options.strategy == "fedvc" or options.clip_norm else WEIGHT,
        **more.get(options.strategy, {}),
    )
    made.prepare(options, orders=orders, first=first, note=note)
    if not options.clip_norm:
        return made, made
    private = DifferentialPrivacyServerSideFixedClipping(
        made, options.noise, options.clip_norm, options.clients_per_round
    )
    return private, made


def state_of(strategy: Any, names: Sequence[str]) -> State:
    """The state of a strategy from round to round, by name."""
    found: State = {}
    if getattr(strategy, "momentum_vector", None) is not None:
        found |= {
            f"momentum_vector.{name}": value
            for name, value in zip(names, strategy.momentum_vector, strict=True)
        }
    for part in ("m_t", "v_t"):
        found |= {
            f"{part}.{name}": value for name, value in (getattr(strategy, part, None) or {}).items()
        }
    return found


def load_state(strategy: Any, state: State, names: Sequence[str]) -> None:
    """Put back what `state_of` gave."""
    if any(name.startswith("momentum_vector.") for name in state):
        strategy.momentum_vector = [state[f"momentum_vector.{name}"] for name in names]
    for part in ("m_t", "v_t"):
        if held := {
            name.removeprefix(f"{part}."): value
            for name, value in state.items()
            if name.startswith(f"{part}.")
        }:
            setattr(strategy, part, held)


def as_record(tensors: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Tensors as Flower sends them."""
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in tensors.items()})


def as_tensors(record: ArrayRecord) -> State:
    """Tensors as Flower received them."""
    return {name: array.numpy() for name, array in record.items()}


def introduce(message: Message, *, name: str, size: int) -> Message:
    """A client's answer to who it is."""
    record = {CLIENT: ConfigRecord({"name": name}), "size": MetricRecord({WEIGHT: size})}
    return Message(RecordDict(record), reply_to=message)


def answer(message: Message, work: LocalWork, *, name: str) -> Message:
    """A client's answer: its name and size, or what it learned in a round. What it cannot do goes
    back as an error's text."""
    if message.metadata.message_type == MessageType.QUERY:
        return introduce(message, name=name, size=work.num_queries)
    config = message.content.config_records["config"]
    asked = Work(
        round=int(config["round"]),  # type: ignore[arg-type]
        num_rounds=int(config["num-rounds"]),  # type: ignore[arg-type]
        num_steps=int(config["num-steps"]),  # type: ignore[arg-type]
        proximal_mu=float(config.get("proximal-mu", 0.0)),  # type: ignore[arg-type]
        is_uneven=bool(config["is-uneven"]),
    )
    done = work.learn(as_tensors(message.content.array_records["arrays"]), asked)
    said = {
        WEIGHT: done.num_queries,
        "one": 1,
        "num-steps": done.num_steps,
        "loss": float(np.mean(done.losses)),
    }
    return Message(
        RecordDict({"arrays": as_record(done.tensors), "metrics": MetricRecord(said)}),
        reply_to=message,
    )


class InProcess(Grid):
    """Clients of this process, one after the other: for simulations."""

    def __init__(self, clients: Sequence[Callable[[Message], Message]]) -> None:
        # Flower's messages bear who made them; in its own processes that is said by those that
        # start them.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self._clients = dict(enumerate(clients, start=2))
        self._replies: dict[str, Message] = {}
        self._number = 0

    def set_run(self, run: Any) -> None:
        """Nothing: there is one run."""

    @property
    def run(self) -> Any:
        """None: there is one run."""
        return None

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a client."""
        return Message(
            content=content,
            message_type=message_type,
            dst_node_id=dst_node_id,
            group_id=group_id,
            ttl=ttl,
        )

    def get_node_ids(self) -> list[int]:
        """All clients."""
        return list(self._clients)

    def push_messages(self, messages: Iterable[Message]) -> Iterator[str]:
        """Numbers of the answers of clients, who are let answer."""
        for message in messages:
            self._number += 1
            self._replies[str(self._number)] = self._clients[message.metadata.dst_node_id](message)
            yield str(self._number)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The answers of these numbers."""
        return [self._replies.pop(number) for number in message_ids]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """All answers."""
        return self.pull_messages(list(self.push_messages(messages)))


def safely(work: Callable[[], LocalWork], *, name: str) -> Callable[[Message], Message]:
    """A client of this process; what it raises becomes its answer, as over a network."""
    made: list[LocalWork] = []

    def answers(message: Message) -> Message:
        try:
            if not made:
                made.append(work())
            return answer(message, made[0], name=name)
        except WhenceError as error:
            return Message(Error(code=0, reason=str(error)), reply_to=message)

    return answers


def log_to(path: Path) -> Callable[[dict[str, Any]], None]:
    """A function that appends a line of JSON to the log."""

    def note(record: dict[str, Any]) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    return note
