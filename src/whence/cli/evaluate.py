"""`whence evaluate`: how often is the answer right?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from whence.cli import completion
from whence.cli.cell_evaluation import print_cells
from whence.cli.output import print_json, print_note, report_remarks, show, write_all
from whence.cli.protocols import PROTOCOLS
from whence.data.formats import EvaluationSet, read_frames
from whence.data.predictions import PairNames, Ranked, read_hloc_pairs, read_predictions, write_hloc_pairs, write_predictions
from whence.data.scan import ReadOptions, scan_photos
from whence.errors import BadOption, NoPhotos
from whence.runtime import check_place
from whence.settings import DEFAULT_MODEL, OTHERWISE, load_settings, parse_options

if TYPE_CHECKING:
    from whence.evaluation.benchmarks import Evaluation, EvaluationOptions


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("evaluate", help="Measure recall and position error on photos with known places.")(evaluate)


def evaluate(
    data: str = typer.Argument(
        ..., help="Folder with database and queries, a CSV of query,positives, a folder of photos, or a published set's name."
    ),
    names: list[str] = typer.Argument(None, help="With --compare: models, or files of saved predictions (.csv, .txt)."),
    compare: bool = typer.Option(False, "--compare", help="Compare the models and predictions named after the data, pair by pair."),
    model: str = typer.Option(None, autocompletion=completion.models, help="Model to evaluate; `whence models` lists them."),
    option: list[str] = typer.Option([], "--option", help="Model option as name=value. May be repeated."),
    protocol: str = typer.Option(
        None,
        "--protocol",
        autocompletion=completion.published_sets,
        help="Published set that the folder holds: pitts30k, msls-val, ...; revisited: landmarks; earthloc: photos from orbit.",
    ),
    layout: str = typer.Option(
        None, "--layout", autocompletion=completion.layouts, help="How the files lie, by name. Default: as it is recognised."
    ),
    split: str = typer.Option("", help="Split folder inside the set: train, val or test; of MSLS also cities: cph,sf."),
    database_folder: str = typer.Option(None, help="Folder of the database photos, if not named as usual."),
    queries_folder: str = typer.Option(None, help="Folder of the queries, if not named as usual."),
    frames: int = typer.Option(None, "--frames", help="Two walks of the same frames: frames that far apart show the same place."),
    sequence: int = typer.Option(None, "--sequence", help="Count windows of so many frames of drives instead of single photos."),
    pool: str = typer.Option(
        "", "--pool", help="With --sequence: own, mean, max, cat, delta, seqgem, or matching and aligned, which compare frames."
    ),
    registration: bool = typer.Option(
        False, "--registration", help="The data are pairs of images with tie points: how well are they registered?"
    ),
    reverse: bool = typer.Option(False, "--reverse", help="With --sequence: the database's frames in the other order."),
    speed: int = typer.Option(1, "--speed", help="With --sequence: query drives at so many times the speed."),
    leave_one_out: bool = typer.Option(
        False, "--leave-one-out", help="Each photo asks all others (those of the same content left out)."
    ),
    positions: str = typer.Option(None, help="CSV or GeoJSON file with the photos' positions."),
    thresholds: str = typer.Option(
        None, help="Distances in metres within which an answer is right. Default: 10,25,50, or as --protocol says."
    ),
    recall_at: str = typer.Option("1,5,10,20", help="Ranks N at which recall@N is counted."),
    work: str = typer.Option(None, help="Folder that keeps the descriptors, so that a stopped run goes on."),
    predictions: str = typer.Option(
        None, help="Score this file instead of a model: CSV query,rank,photo,similarity, or hloc pairs (.txt)."
    ),
    rerank: str = typer.Option(
        None,
        "--rerank",
        autocompletion=completion.scorers,
        help="Order the first candidates by this pair scorer, or chain: geowarp:100,inliers:10.",
    ),
    matcher: str = typer.Option(
        None, "--matcher", autocompletion=completion.matchers, help="Matcher of the scorer inliers, as whence-local."
    ),
    rerank_option: list[str] = typer.Option([], "--rerank-option", help="Scorer option as name=value. May be repeated."),
    rerank_candidates: int = typer.Option(20, "--rerank-candidates", help="Candidates per query that --rerank compares."),
    rerank_seconds: float = typer.Option(None, "--rerank-seconds", help="Seconds per query for --rerank."),
    rerank_when_unsure: float = typer.Option(
        None,
        "--rerank-when-unsure",
        help="Compare candidates only until one is right with this probability (verified: with half the doubt they may leave).",
    ),
    rerank_otherwise: str = typer.Option(
        OTHERWISE, "--rerank-otherwise", help="Orders the first candidates where matches speak for none: SCORER:PHOTOS, or none."
    ),
    calibration: str = typer.Option(None, help="With --rerank: verify with this calibration file instead of the packaged one."),
    query_mode: str = typer.Option(
        None, help="How queries are looked at: hard_resize, five_crops, maj_voting, panorama, rotations, ..."
    ),
    query_size: str = typer.Option(None, help="Height and width for --query-mode, as 480x640. Default: the model's own."),
    engine: str = typer.Option("flat", help="Search engine, as whence index takes it; flat compares with every photo."),
    cells: str = typer.Option(
        None,
        "--cells",
        help="File of learned cells: tells places by them alone, and counts these; with --engine cells searches in the best ones.",
    ),
    allow_null_island: bool = typer.Option(
        False, "--allow-null-island", help="Take latitude 0, longitude 0 for a place instead of a missing fix."
    ),
    fit_on: str = typer.Option(None, "--fit-on", help="Fit what a model fits (PCA, words) on this folder, not on the database."),
    frugal: bool = typer.Option(False, "--frugal", help="Keep descriptors in a temporary file instead of in memory."),
    save_predictions: str = typer.Option(None, help="Write the ranked candidates to this CSV file."),
    save_pairs: str = typer.Option(None, help="Write the ranked candidates to this file as hloc pairs."),
    pairs_root: str = typer.Option(
        None, help="With --save-pairs: name all photos from this folder, as hloc's image folder. Default: from their own folders."
    ),
    report: str = typer.Option(
        None, "--report", help="Write a page with map, photos and candidates to this HTML file; with --compare also .md."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress bar."),
) -> int:
    """Print recall@N with counts, 95 % intervals and protocol, position errors, and with --rerank the worth of answers."""
    from whence.cli.sequence_evaluation import print_sequences, sequence_rules
    from whence.evaluation.benchmarks import EvaluationOptions, EvaluationStopped
    from whence.evaluation.benchmarks import evaluate as run
    from whence.evaluation.foreign import evaluate_predictions
    from whence.localize.engine import EXACT
    from whence.localize.rerank_options import rerank_options
    from whence.models.asking import parse_views

    if sequence is not None:
        rules = sequence_rules(sequence, pool, (reverse, speed), frames=frames, thresholds=thresholds, recall_at=recall_at)
        where = (data, split, database_folder, queries_folder)
        return print_sequences(where, model, parse_options(option), rules, as_json=as_json, quiet=quiet)
    protocol = "registration" if registration else protocol
    if protocol in PROTOCOLS:
        return PROTOCOLS[protocol](data, model or DEFAULT_MODEL, parse_options(option), as_json=as_json)
    options = EvaluationOptions(
        thresholds_m=_numbers(thresholds or _usual_thresholds(data, protocol), "--thresholds"),
        recall_at=tuple(int(n) for n in _numbers(recall_at, "--recall-at")),
        is_leave_one_out=leave_one_out,
        rerank=None
        if rerank is None
        else rerank_options(
            rerank,
            matcher=matcher,
            num_candidates=rerank_candidates,
            max_seconds=rerank_seconds,
            scorer_options=parse_options(rerank_option),
            when_unsure=rerank_when_unsure,
            otherwise=rerank_otherwise,
        ),
        calibration=None if calibration is None else Path(calibration),
        work_folder=None if work is None else Path(work),
        views=parse_views(query_mode, query_size),
        engine=engine,
        cells=None if cells is None or engine == EXACT else Path(cells),
        is_frugal=frugal,
        fit_folder=None if fit_on is None else Path(fit_on),
    )
    folders = (database_folder, queries_folder)
    reading = ReadOptions(allow_null_island=allow_null_island)
    chosen = _read_set(data, protocol, layout, split, folders, frames, leave_one_out, positions, reading)
    report_remarks(dict.fromkeys((*chosen.database.remarks, *chosen.queries.remarks)))
    if cells is not None and engine == EXACT:
        if compare or names or predictions or rerank or report or save_predictions or save_pairs or leave_one_out:
            raise BadOption("--cells without --engine cells counts cells: it takes queries, and prints alone")
        return print_cells(cells, chosen, options, model, parse_options(option), as_json, quiet)
    if pairs_root is not None and save_pairs is None:
        raise BadOption("--pairs-root goes with --save-pairs")
    pairs = None if save_pairs is None else PairNames.of(chosen, root=pairs_root)
    for file in (save_predictions, save_pairs, report):
        if file is not None:
            check_place(file)
    if compare or names:
        if not compare or predictions or save_predictions or save_pairs or model:
            raise BadOption("--compare takes models and files of predictions after the data, and writes --report and --json alone")
        return _compare(chosen, names or [], options, parse_options(option), report, as_json, quiet)
    outputs = _Outputs(as_json, save_predictions, save_pairs, pairs, report)
    if matcher is not None and rerank is None:
        raise BadOption("--matcher is that of --rerank inliers")
    if predictions is not None and rerank is not None:
        raise BadOption("--rerank orders candidates that Whence finds, not those of --predictions")
    if predictions is not None:
        result = evaluate_predictions(_read_ranked(predictions), chosen, name=predictions, options=options)
    else:
        name = load_settings(flags={"model": model}).model
        progress = False if quiet or as_json else None
        try:
            result = run(name, chosen, options=options, model_options=parse_options(option), show_progress=progress)
        except EvaluationStopped as stopped:
            if stopped.partial is not None:
                _give(stopped.partial, outputs)
            raise
    return _give(result, outputs)


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Where an evaluation goes."""

    as_json: bool
    predictions_file: str | None
    pairs_file: str | None
    pairs: PairNames | None
    report_file: str | None


def _give(result: Evaluation, outputs: _Outputs) -> int:
    """Print first, then write what else was asked for; exit code 1 where a file cannot be written."""
    from whence.evaluation.html import write_page
    from whence.evaluation.page import page_of_evaluation
    from whence.evaluation.report import as_records, as_table

    if outputs.as_json:
        print_json(as_records(result))
    else:
        show(as_table(result))
    jobs: list[Callable[[], None]] = []
    if (predictions_file := outputs.predictions_file) is not None:
        jobs.append(lambda: write_predictions(predictions_file, result.ranked()))
    if (pairs_file := outputs.pairs_file) is not None and (pairs := outputs.pairs) is not None:
        jobs.append(lambda: write_hloc_pairs(pairs_file, pairs.renamed(result.ranked())))
    if (report_file := outputs.report_file) is not None:
        jobs.append(lambda: write_page(report_file, page_of_evaluation(result)))
    return write_all(jobs)


def _read_ranked(path: str) -> tuple[Ranked, ...]:
    return read_hloc_pairs(path) if path.endswith(".txt") else read_predictions(path)


def _compare(
    data: EvaluationSet,
    names: list[str],
    options: EvaluationOptions,
    model_options: Mapping[str, Any],
    report: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Evaluate each, and print how they differ."""
    from whence.evaluation.benchmarks import evaluate
    from whence.evaluation.comparison import compare
    from whence.evaluation.comparison_report import as_comparison_records, as_comparison_table, write_comparison
    from whence.evaluation.foreign import evaluate_predictions

    results = []
    for number, name in enumerate(names):
        if Path(name).suffix in (".csv", ".txt"):
            results.append(evaluate_predictions(_read_ranked(name), data, name=name, options=options))
            continue
        work = options.work_folder and options.work_folder / f"{number}-{Path(name).stem}"
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
        own = replace(options, work_folder=work)
        progress = False if quiet or as_json else None
        results.append(evaluate(name, data, options=own, model_options=model_options, show_progress=progress))
    found = compare(results, names=names)
    if report is not None:
        write_comparison(report, found)
    if as_json:
        print_json(as_comparison_records(found))
    else:
        show(as_comparison_table(found))
    return 0


def _usual_thresholds(data: str, protocol: str | None) -> str:
    from whence.evaluation.published import get_published

    name = _published_name(data, protocol)
    return "10,25,50" if name is None else ",".join(f"{limit:g}" for limit in get_published(name).thresholds_m)


def _published_name(data: str, protocol: str | None) -> str | None:
    """The published set that is meant: the one named, or what is asked for where there is no such file or folder."""
    from whence.evaluation.published import PUBLISHED

    return protocol or (data if data in PUBLISHED and not Path(data).exists() else None)


def _read_set(
    data: str,
    protocol: str | None,
    layout: str | None,
    split: str,
    folders: tuple[str | None, str | None],
    frames: int | None,
    leave_one_out: bool,
    positions: str | None,
    options: ReadOptions,
) -> EvaluationSet:
    """The set a person means: a published one, walks with --frames, one collection with --leave-one-out, else as it is laid out."""
    from whence.data.evaluation_sets import open_set
    from whence.evaluation.published import datasets_folder, find_set, open_published, sizes_note

    path = Path(data)
    name = _published_name(data, protocol)
    if name is not None:
        if leave_one_out or frames is not None or split or folders != (None, None) or layout is not None:
            raise BadOption(
                f"the protocol {name} says how the set is read: leave out --layout, --split, folders, --frames and --leave-one-out"
            )
        root = find_set(name, folder=data if protocol else None, datasets=datasets_folder())
        found = open_published(name, root, options=options)
        if note := sizes_note(name, found):
            print_note(note)
        return found
    if layout is not None and (leave_one_out or frames is not None):
        raise BadOption("--layout is for sets of database and queries: leave out --frames and --leave-one-out")
    if leave_one_out:
        if frames is not None:
            raise BadOption("--leave-one-out and --frames exclude each other")
        photos = scan_photos(data, positions=positions, **options._asdict())
        if not len(photos):
            raise NoPhotos(f"no readable photos under {data!r}")
        return EvaluationSet(path.resolve().name, photos, photos)
    if frames is not None:
        return read_frames(path, tolerance_frames=frames, database_folder=folders[0], queries_folder=folders[1], options=options)
    return open_set(
        path,
        layout=layout or "",
        split=split,
        database_folder=folders[0],
        queries_folder=folders[1],
        positions=positions,
        options=options,
    )


def _numbers(text: str, flag: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadOption(f"{flag} takes numbers separated by commas, not {text!r}") from None
