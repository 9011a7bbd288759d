"""The benchmarks measure what they say: tables, known optima, profiles, and a runner that goes on where it stopped."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from benchmarks import data, gated, profiles, survey, synthetic
from benchmarks.cases import METHODS, SUITES, Case, cases, methods
from benchmarks.plan import Expected, Progress, expected, hours
from benchmarks.record import Job, NetworkTrace, Outcome, Point, TimeUpError
from benchmarks.report import markdown
from benchmarks.run import Runner, _parser, main
from benchmarks.versions import code_of, threads_of
from benchmarks.worker import make_job, perform

from cvxnn import GatedReLU, Problem, ReLUNetwork, landscape, solve


class TestTables:
    def test_standardised_with_training_statistics(self):
        table = data.load("diabetes", holdout=0.25)
        assert len(table.y) + len(table.y_test) == 442
        np.testing.assert_allclose(table.X[:, :-1].mean(axis=0), 0.0, atol=1e-12)
        np.testing.assert_allclose(table.X[:, :-1].std(axis=0), 1.0, atol=1e-12)
        assert np.all(table.X[:, -1] == 1.0) and np.all(table.X_test[:, -1] == 1.0)
        assert abs(table.y.mean()) < 1e-12 and abs(table.y.std() - 1.0) < 1e-12
        # The test rows are moved by the same numbers, not by their own.
        assert np.max(np.abs(table.X_test[:, :-1].mean(axis=0))) > 1e-3

    def test_all_rows_are_kept_in_order_without_holdout(self):
        whole, split = data.load("cancer"), data.load("cancer", holdout=0.1)
        assert whole.X.shape == (569, 31) and len(whole.y_test) == 0
        assert set(np.unique(whole.y)) == {-1.0, 1.0}
        assert len(split.y) == 512

    def test_constant_columns_are_dropped(self):
        assert data.load("digits").X.shape == (1797, 62)

    @pytest.mark.parametrize("name", ["nothing", "keel", "synthetic-20", "planted-gated-20x3"])
    def test_unknown_name(self, name):
        with pytest.raises(ValueError, match=name):
            data.load(name)

    def test_wrong_share(self):
        with pytest.raises(ValueError, match="holdout"):
            data.load("iris", holdout=1.0)

    def test_keel_format(self, tmp_path, monkeypatch):
        folder = tmp_path / "data/balanced/raw"
        folder.mkdir(parents=True)
        rows = ["1.5, red, yes, a", "2.5, blue, no, b", "?, red, no, a", "0.5, green, no, a", "4, red, yes, <null>", ""]
        (folder / "tiny.dat").write_text("\n".join([*rows, "-1, blue, yes, a"]))
        monkeypatch.setattr(data, "_package", lambda name: tmp_path)
        assert data.keel_names() == ["tiny"]
        table = data.load("keel-tiny")
        # One number, three indicators of a colour, one of yes or no, the ones.
        assert table.X.shape == (4, 6)
        np.testing.assert_array_equal(table.y, [-1.0, 1.0, -1.0, -1.0])
        assert "2 rows" in table.note and "+1 is b" in table.note

    def test_largest_class_against_the_rest(self):
        labels, note = data._binary(np.array(["x", "y", "z", "y"]))
        np.testing.assert_array_equal(labels, [-1.0, 1.0, -1.0, 1.0])
        assert "other 2 classes" in note

    def test_every_keel_set_that_is_installed_loads(self):
        for name in data.keel_names():
            table = data.load(f"keel-{name}")
            assert np.all(np.isfinite(table.X)) and set(np.unique(table.y)) == {-1.0, 1.0}

    def test_a_column_becomes_the_target(self, tmp_path, monkeypatch):
        folder = tmp_path / "data/balanced/raw"
        folder.mkdir(parents=True)
        rows = [f"{i % 3}, {i * i}, {'a' if i % 4 else 'b'}" for i in range(12)]
        (folder / "tiny.dat").write_text("\n".join(rows))
        monkeypatch.setattr(data, "_package", lambda name: tmp_path)
        table, target = data.load("keel-tiny@regression"), np.arange(12.0) ** 2
        assert table.task == "regression" and table.X.shape == (12, 3)
        np.testing.assert_allclose(table.y, (target - target.mean()) / target.std())
        assert set(np.round(np.abs(np.corrcoef(table.X[:, 1], np.arange(12) % 4 == 0)[0]), 9)) == {1.0}
        (folder / "tiny.dat").write_text("\n".join(row for row in rows for _ in range(2) if row[0] == "0"))
        with pytest.raises(ValueError, match="ten values"):
            data.load("keel-tiny@regression")


class TestPlanted:
    @pytest.mark.parametrize("seed", [0, 1])
    def test_gated_conditions_of_optimality(self, seed):
        X, y, planted = synthetic.planted_gated(120, 4, 30, random_state=seed)
        solution = solve(Problem(X, y, planted.beta), architecture=GatedReLU(planted.gates), tol=1e-9)
        assert len(planted.gates) == 30
        assert solution.objective == pytest.approx(planted.objective, rel=1e-8)
        assert solution.lower_bound <= planted.objective * (1 + 1e-12)

    @pytest.mark.parametrize("d", [2, 3])
    def test_relu_optimum_has_a_global_proof(self, d):
        X, y, planted = synthetic.planted_relu(8 * d, d, random_state=d)
        solution = solve(Problem(X, y, planted.beta), tol=1e-8)
        assert solution.scope == "global"
        assert solution.objective == pytest.approx(planted.objective, rel=1e-7)

    def test_relu_optimum_is_no_bound_violation_in_higher_dimension(self):
        X, y, planted = synthetic.planted_relu(60, 12)
        problem = Problem(X, y, planted.beta)
        network = solve(problem, time_limit=2.0).network
        bound = landscape.certify(problem, network, time_limit=1.0).lower_bound
        assert bound <= planted.objective * (1 + 1e-9) and network.objective(problem) >= planted.objective * (1 - 1e-9)

    def test_sizes_are_checked(self):
        with pytest.raises(ValueError, match="multiple"):
            synthetic.planted_relu(7, 3)
        with pytest.raises(ValueError, match="active"):
            synthetic.planted_gated(20, 5, 10, active=4)


TIMES = {"a": {"x": 1.0, "y": 4.0}, "b": {"x": 6.0, "y": 2.0}, "c": {"x": math.inf, "y": math.inf}}


class TestProfiles:
    def test_performance_profile(self):
        profile = profiles.performance_profile(TIMES)
        np.testing.assert_allclose(profile["x"][0], [1.0, 3.0])
        np.testing.assert_allclose(profile["y"][0], [1.0, 4.0])
        # The problem that nobody solves counts.
        np.testing.assert_allclose(profile["x"][1], [1 / 3, 2 / 3])

    def test_data_profile(self):
        x, share = profiles.data_profile(TIMES)["x"]
        np.testing.assert_allclose(x, [1.0, 6.0])
        np.testing.assert_allclose(share, [1 / 3, 2 / 3])

    def test_time_to_target_waits_for_feasibility(self):
        trace = [[1.0, 0.5, 1e-2], [2.0, 1.5, 0.0], [3.0, 1.0, 1e-5], [4.0, 0.9, 0.0]]
        assert profiles.time_to_target(trace, 1.0) == 3.0
        assert profiles.time_to_target(trace, 0.1) == math.inf
        # Below the floor only what violates nothing counts.
        assert profiles.time_to_target(trace, 1.0, floor=1.01) == 4.0

    def test_certified_runs_count_to_their_end(self):
        base = {"suite": "gated", "case": "c", "seed": 0, "repeat": 0, "known_optimum": 1.0}
        ours = {**base, "method": "cvxnn", "trace": [[0.1, 1.0, 0.0], [2.0, 1.0, 0.0]]}
        ours |= {"lower_bound": 0.99999, "gap": 1e-5, "seconds": 2.0}
        peer = {**base, "method": "peer", "trace": [[0.5, 1.00005, 0.0]], "lower_bound": None, "seconds": 9.0}
        assert profiles.times_to_accuracy([ours, peer], "gated", 1e-4) == {"c": {"cvxnn": 2.0, "peer": 0.5}}
        assert profiles.times_to_accuracy([{**ours, "gap": 2e-4}], "gated", 1e-4) == {"c": {"cvxnn": math.inf}}

    def test_medians_over_repeats(self):
        runs = [_line("peer", repeat, [[float(seconds), 1.0, 0.0]]) for repeat, seconds in enumerate((5, 1, 3))]
        assert profiles.times_to_accuracy(runs, "free", 1e-3)["c"]["peer"] == 3.0
        runs.append(_line("peer", 3, [[1.0, 2.0, 0.0]]))
        assert profiles.times_to_accuracy(runs, "free", 1e-3)["c"]["peer"] == 5.0

    def test_geometric_mean(self):
        assert profiles.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
        assert math.isnan(profiles.geometric_mean([]))

    def test_cut_off_line_is_left_out(self, tmp_path):
        path = tmp_path / "runs.jsonl"
        path.write_text(json.dumps({"a": 1}) + '\n{"a": 2, "tra')
        assert profiles.read_runs(path) == [{"a": 1}]
        assert profiles.read_runs(tmp_path / "none.jsonl") == []
        # The next line does not land on the one that was cut off.
        for value in (3, 4):
            profiles.append_run(path, {"a": value})
        assert profiles.read_runs(path) == [{"a": 1}, {"a": 3}, {"a": 4}]
        assert path.read_bytes().endswith(b"}\n")

    def test_tables_do_not_mix_code_or_threads(self):
        peer = {"suite": "gated", "case": "c", "method": "peer", "code": "p 1", "threads": "1"}
        ours = [{**peer, "method": "cvxnn", "code": code} for code in ("old", "new", "new")]
        other = {**peer, "threads": "default"}
        assert profiles.current([peer, *ours, other], "1") == [peer, *ours[1:]]
        assert profiles.current([peer, *ours, other], "default") == [other]


class TestReport:
    def test_wins_losses_and_late_runs(self):
        ours = [_line("cvxnn", 0, [[1.0, 1.0, 0.0]])]
        peer = [_line("Adam 400", 0, [[1.0, 1.1, 0.0]], options={"lr": 0.01})]
        peer += [_line("Adam 400", 0, [[1.0, 1.2, 0.0]], options={"lr": 0.1})]
        text = markdown([*ours, *peer], {})
        assert "cvxnn not above it in 1 of 1 cases" in text and "+10.000" in text and "lr 0.1," not in text
        assert "in 0 of 1 cases" in markdown([{**ours[0], "seconds": 9.0}, *peer], {})
        better = [_line("Adam 400", 0, [[1.0, 0.9, 0.0]], options={"lr": 0.01})]
        assert "in 0 of 1 cases" in markdown([*ours, *better], {})

    def test_a_case_without_our_result_is_lost(self):
        ours = _line("cvxnn", 0, []) | {"failure": "killed"}
        text = markdown([ours, _line("Adam 400", 0, [[1.0, 1.1, 0.0]])], {})
        assert "in 0 of 1 cases" in text and "cvxnn failed" in text and "killed" in text

    def test_failures_stay(self):
        line = _line("SCS", 0, [], suite="fixed") | {"failure": "exit 1: out of memory", "objective": None}
        text = markdown(
            [_line("cvxnn", 0, [[1.0, 1.0, 0.0]], suite="fixed") | {"gap": 0.0, "lower_bound": 1.0}, line], {}
        )
        assert "out of memory" in text and "failed" in text


class TestRuns:
    def test_one_run_end_to_end(self):
        line = perform(make_job(Case("gated", "planted-gated-90x3x20", 0.0, 20), 10.0, 0, {}), "cvxnn")
        assert line["objective"] == pytest.approx(line["known_optimum"], rel=1e-4)
        assert line["gap"] <= 1e-4 and line["failure"] is None and line["extra_mb"] >= 0.0
        assert json.loads(json.dumps(line)) == line

    def test_scikit_learn_network_is_scored_as_it_predicts(self):
        from benchmarks.peers import sklearn_mlp

        job = make_job(Case("free", "iris", 1e-2, holdout=0.2), 0.3, 0, {"solver": "lbfgs", "width": 5})
        outcome = sklearn_mlp.run(job)
        assert outcome.width == 6 and outcome.trace[-1].objective == outcome.predict.objective(job.problem)
        values = [point.objective for point in outcome.trace]
        assert values == sorted(values, reverse=True)

    def test_network_trace_scores_balanced_copies_and_ends(self):
        job = make_job(Case("free", "curve-20", 1e-2), 0.05, 0, {})
        trace = NetworkTrace(job)
        W, a = np.ones((1, 2)), np.array([1e-3])
        trace.keep(W, a)
        trace.keep(np.full((1, 2), np.nan), a)
        outcome = trace.outcome("done")
        assert [p.objective for p in outcome.trace] == [ReLUNetwork(W, a).balanced().objective(job.problem)]
        trace._begin -= 1.0
        with pytest.raises(TimeUpError):
            trace.due()

    def test_target_needs_feasibility(self):
        job = make_job(Case("free", "curve-20", 1e-2), 1.0, 0, {}, target=2.0)
        assert isinstance(job, Job) and job.met(1.0) and not job.met(1.9999, 1e-2) and not job.met(3.0)
        assert job.met(1.9999, 1e-5) and not job.met(1.0, 1e-5)

    def test_finished_runs_are_not_repeated(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("benchmarks.run.draw_profiles", lambda runs, folder: [])
        arguments = ["--suite", "gated", "--quick", "--cases", "planted", "--methods", "cvxnn", "--repeats", "1"]
        arguments += ["--out", str(tmp_path)]
        assert main(arguments) == 0
        lines = (tmp_path / "runs.jsonl").read_text()
        assert len(lines.splitlines()) == 2 and "| cvxnn |" in (tmp_path / "results.md").read_text()
        monkeypatch.setattr(Runner, "_perform", lambda *_: pytest.fail("a finished run was repeated"))
        assert main(arguments) == 0
        assert (tmp_path / "runs.jsonl").read_text() == lines
        capsys.readouterr()

    def test_fresh_repeats_and_keeps_the_old_file(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("benchmarks.run.draw_profiles", lambda runs, folder: [])
        performed = []

        def perform(runner, case, method, *order):
            performed.append(method.name)
            return _line(method.name, 0, [[1.0, 1.0, 0.0]], suite="gated")

        monkeypatch.setattr(Runner, "_perform", perform)
        arguments = ["--suite", "gated", "--cases", "diabetes P=100", "--quick", "--methods", "cvxnn"]
        arguments += ["--repeats", "2", "--out", str(tmp_path)]
        assert main(arguments) == main(arguments) == 0
        assert len(performed) == 3
        assert main([*arguments, "--plan", "--fresh"]) == 0
        assert "3 runs" in (printed := capsys.readouterr().out) and "3 there" in printed and "[1/1, " in printed
        assert len(performed) == 3
        assert main([*arguments, "--fresh"]) == 0
        assert len(performed) == 6
        assert (tmp_path / "runs.old.jsonl").read_text() == (tmp_path / "runs.jsonl").read_text()
        capsys.readouterr()

    def test_interrupt_keeps_what_is_done(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("benchmarks.run.draw_profiles", lambda runs, folder: [])
        performed = []

        def perform(runner, case, method, *order):
            if len(performed) == 3:
                raise KeyboardInterrupt
            performed.append((case.key, method.name))
            return _line(method.name, 0, [[1.0, 1.0, 0.0]], suite="gated")

        monkeypatch.setattr(Runner, "_perform", perform)
        arguments = ["--suite", "gated", "--quick", "--methods", "cvxnn", "--repeats", "1", "--out", str(tmp_path)]
        assert main(arguments) == 130
        assert len(profiles.read_runs(tmp_path / "runs.jsonl")) == 3
        assert "cvxnn" in (tmp_path / "results.md").read_text()
        performed.append(None)
        assert main(arguments) == 0
        assert len(performed) == 5 and len(set(performed)) == 5
        capsys.readouterr()

    def test_a_change_of_code_or_threads_repeats_a_run(self, tmp_path, capsys, monkeypatch):
        performed = []

        def perform(runner, *order):
            performed.append(order)
            return _line("cvxnn", 0, [[1.0, 1.0, 0.0]], suite="gated")

        monkeypatch.setattr(Runner, "_perform", perform)
        case, method = Case("gated", "iris", 0.1, 5), methods("gated", ["cvxnn"], "squared")[0]
        for threads in ("1", "1", "2"):
            runner = Runner(_parser().parse_args(["--out", str(tmp_path), "--threads", threads]))
            line = runner.run(case, method, 1.0)
        assert len(performed) == 2 and line["threads"] == "2"
        monkeypatch.setattr("benchmarks.run.code_of", lambda method: "changed")
        assert runner.run(case, method, 1.0)["code"] == "changed" and len(performed) == 3
        capsys.readouterr()

    def test_code_of_every_method_is_known(self):
        codes = {method.name: code_of(method) for method in METHODS}
        assert codes["cvxnn"] == codes["cvxnn 1e-6"] and "pyscnn" in codes["pyscnn AL"] and "torch" in codes["SGD 400"]
        assert threads_of(3) == "3"

    def test_seconds_without_a_proof_are_infinite(self, monkeypatch):
        job = make_job(Case("gated", "planted-gated-90x3x20", 0.0, 20), 10.0, 0, {"tol": 1e-4})
        seconds, objective = gated.ours(job)
        assert math.isfinite(seconds)
        open_gap = Outcome([Point(0.1, objective)], 0.1, "time limit", lower_bound=objective * (1.0 - 2e-4))
        monkeypatch.setattr("benchmarks.peers.cvxnn_solve.run", lambda job: open_gap)
        assert gated.ours(job) == (math.inf, objective)

    def test_failing_run_is_a_line(self, tmp_path, capsys):
        runner = Runner(_parser().parse_args(["--out", str(tmp_path)]))
        line = runner.run(Case("gated", "nothing", 0.1, 5), methods("gated", ["cvxnn"], "squared")[0], 1.0)
        assert line["objective"] is None and "nothing" in line["failure"]
        assert profiles.read_runs(tmp_path / "runs.jsonl")[0]["failure"] == line["failure"]
        capsys.readouterr()


class TestPlan:
    def test_runs_of_the_free_suite_are_those_performed(self, tmp_path, capsys, monkeypatch):
        performed = []

        def perform(runner, case, method, limit, seed, settings, target):
            performed.append(limit)
            value = 1.0 + abs(settings.get("lr", 0.0) - 1e-2)
            return _line(method.name, seed, [[1.0, value, 0.0]]) | {"limit": limit}

        monkeypatch.setattr(Runner, "_perform", perform)
        names = ["cvxnn", "L-BFGS 400", "Adam 400"]
        for lam, table in ((1e-2, "iris"), (1e-3, "keel-none")):
            monkeypatch.setattr("benchmarks.plan.load", lambda *_, **__: data.load("synthetic-1200x3"))
            case, options = Case("free", table, lam), ["--out", str(tmp_path / table), "--repeats", "2"]
            performed.clear()
            Runner(_parser().parse_args([*options, "--methods", *names, "--long-seeds", "2"])).free(case)
            figure = expected(case, names=names, repeats=2, long_seeds=2)
            # The best rate is in the middle of the grid, which is therefore not extended.
            assert figure.runs == pytest.approx(len(performed) + 0.7)
            assert figure.seconds == pytest.approx(sum(performed) + 0.7 * 4.0 + 3.0 * figure.runs)
        capsys.readouterr()

    def test_the_reference_is_counted_once(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(
            Runner, "_perform", lambda _, case, method, *__: _line(method.name, 0, [[1.0, 1.0, 0.0]], suite="gated")
        )
        case = Case("gated", "iris", 0.1, 5)
        for number, names in enumerate((["cvxnn"], ["cvxnn", "cvxnn 1e-6"])):
            arguments = ["--out", str(tmp_path / str(number)), "--repeats", "1", "--methods", *names]
            runner = Runner(_parser().parse_args(arguments))
            runner.timed(case)
            assert len(runner.runs) == expected(case, names=names, repeats=1).runs == 2
        capsys.readouterr()

    def test_time_left_leaves_out_what_is_there(self):
        progress = Progress([Expected(4, 40.0), Expected(2, 20.0)], [3, 0])
        assert progress.seconds == 30.0 and progress.text(0) == "[1/2, 0:00:30 to go]"
        assert Progress([Expected(4, 40.0)], [5]).seconds == 0.0

    def test_time_left_follows_the_pace(self):
        progress = Progress([Expected(1, 10.0), Expected(1, 30.0)], [0, 0])
        progress._begin -= 20.0
        assert progress.text(1) == "[2/2, 0:01:00 to go]" and hours(86399.6) == "24:00:00"


class TestSurvey:
    def test_weights_of_the_rival_are_those_of_the_problem(self):
        import torch
        from benchmarks.peers.torch_networks import _Network

        for loss in ("squared", "logistic", "huber", "squared_hinge"):
            for weighted in (False, True):
                job = make_job(Case("free", "iris", 1e-2, loss=loss, weighted=weighted), 1.0, 0, {"width": 7})
                network = _Network(job, torch.float64)
                value = ReLUNetwork(*network.weights()).objective(job.problem)
                assert float(network.loss().detach()) * 150 == pytest.approx(value, rel=1e-12)
        weight = job.problem.sample_weight
        assert weight.mean() == pytest.approx(1.0) and np.count_nonzero(weight == 0.0) == 15
        rows = torch.arange(20)
        part = Problem(job.problem.X[:20], job.problem.y[:20], 0.0, loss, sample_weight=weight[:20])
        fit = ReLUNetwork(*network.weights())(part.X)
        squares = sum(float(p.detach().square().sum()) for p in (network.W, network.a))
        expected_value = part.loss_value(fit) / 20 + 0.5 * job.problem.beta / 150 * squares
        assert float(network.loss(rows).detach()) == pytest.approx(expected_value, rel=1e-12)

    def test_a_case_end_to_end(self):
        line = survey.compare(Case("free", "iris", 1e-1, weighted=True), 0.4)
        job = make_job(Case("free", "iris", 1e-1, weighted=True), 0.4, 0, {})
        zero = job.problem.loss_value(np.zeros(150))
        for name in ("objective", "Adam 400", "L-BFGS 400", "L-BFGS 400 longer"):
            assert 0.0 < line[name] < zero
        assert line["L-BFGS 400 longer"] <= line["L-BFGS 400"] and line["failure"] is None
        assert "iris lam=0.1 squared weighted" in survey.survey_table([line])

    def test_remarks_and_order(self):
        best = {"case": "good", "seed": 0, "n": 1, "d": 1, "limit": 1.0, "wall": 1.0, "cpu": 1.0, "objective": 1.0}
        best |= {"Adam 400": 1.1, "L-BFGS 400": 1.2, "Adam 400 longer": None, "L-BFGS 400 longer": 1.05}
        best |= {"status": "done", "gap": 0.1, "global_bound": 0.9, "failure": None, "warnings": []}
        lost = best | {"case": "bad", "L-BFGS 400 longer": 0.99, "wall": 2.0, "global_bound": 0.995}
        assert survey._remarks(best) == []
        marks = survey._remarks(lost)
        assert [mark.split()[0] for mark in marks] == ["LOSS", "LATE", "FALSE"] and "-1.0000 %" in marks[0]
        text = survey.survey_table([best, lost])
        assert text.index("bad") < text.index("good")
        assert "at equal time in 2, at five times the time in 1 of 2" in text
        failed = best | {"objective": None, "failure": "ValueError: no", "global_bound": None}
        assert survey._remarks(failed)[-1] == "FAILURE ValueError: no" and "ValueError" in survey.survey_table([failed])

    def test_an_error_of_the_solver_is_a_line(self, monkeypatch):
        def fail(*_, **__):
            raise ValueError("no")

        monkeypatch.setattr(survey, "solve", fail)
        line = survey._ours(make_job(Case("free", "iris", 1e-1), 0.1, 0, {}))
        assert line["objective"] is None and line["failure"] == "ValueError: no"


class TestCases:
    @pytest.mark.parametrize("suite", SUITES)
    def test_keys_are_distinct(self, suite):
        for flags in ({"quick": True}, {}, {"every": True}):
            found = [case.key for case in cases(suite, **flags)]
            assert len(set(found)) == len(found) > 0

    def test_methods_by_name_and_loss(self):
        assert [m.name for m in methods("free", ["adam400", "l-bfgs 400"], "squared")] == ["Adam 400", "L-BFGS 400"]
        assert all(m.losses is None for m in methods("gated", ["all"], "huber"))
        assert {m.name for s in SUITES for m in methods(s, ["all"], "squared")} == {m.name for m in METHODS}
        with pytest.raises(ValueError, match="got SGD9"):
            methods("free", ["SGD9"], "squared")

    def test_unknown_method_is_one_sentence(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            main(["--plan", "--methods", "cvxnn", "Adam", "--out", str(tmp_path / "none")])
        assert "error: methods must be among cvxnn, " in capsys.readouterr().err and not list(tmp_path.iterdir())


def _line(method, repeat, trace, *, suite="free", options=None):
    """Line of a run whose best known objective is 1."""
    end = trace[-1][1] if trace else None
    line = {"suite": suite, "case": "c", "method": method, "seed": repeat, "repeat": repeat, "options": options or {}}
    line |= {"limit": 1.0, "n": 1, "d": 1, "known_optimum": 1.0, "status": "done", "failure": None, "seconds": 1.0}
    line |= {"wall": 1.0, "objective": end, "violation": 0.0, "lower_bound": None, "global_lower_bound": None}
    return line | {"gap": None, "width": 1, "test_error": None, "extra_mb": 1.0, "trace": trace}
