"""Reading a verdict: what a claim says where there is something to find, and what it says where there is nothing."""

import gatecast

SMALL = {
    "horizon": 1, "schedule": {"refit": "1Y"}, "control": None,
    "models": ("ridge", "logistic"), "signals": {"model": "ridge", "confirmed_by": "ridge"},
}  # fmt: skip


def main() -> None:
    # --8<-- [start:runs]
    planted = gatecast.market.synthetic.b1(1200, seed=3, r2=0.05)  # column x tells 5 % of each bar's variance
    nothing = gatecast.market.synthetic.a1(1200, seed=3)  # a random walk: no forecast of returns can be any good
    found = gatecast.run(gatecast.Experiment(bars=planted, features=("ret_log_1", "x"), too_good="planted", **SMALL))
    unfounded = gatecast.run(gatecast.Experiment(bars=nothing, **SMALL))
    # --8<-- [end:runs]

    # --8<-- [start:verdicts]
    for name, run in (("something to find", found), ("nothing to find", unfounded)):
        one = run.verdicts["return"]
        print(f"{name}: {one['verdict']}")
        print(f"  gain {one['effect']:+.2%}, 90 % interval {one['low']:+.2%} to {one['high']:+.2%}")
        print(f"  p {one['pvalue']:.2g} alone, {one['pvalue_holm']:.2g} among the verdicts of this run,")
        print(f"  {one['pvalue_trials']:.2g} after everything that was tried on this market ({one['trials']} trials)")
        print(f"  {one['n']:,} days; a true gain of {one['detectable']:.2%} would have shown in 4 of 5 such records")
    # --8<-- [end:verdicts]

    # --8<-- [start:figures]
    figure = found.plot()  # a Plotly figure; in a notebook the last line of a cell shows it
    print(f"the figure has the lines {', '.join(trace.name for trace in figure.data)}")
    smaller = found.with_(target=0.05)  # other settings on the same forecasts: no fit, and one more trial
    print(smaller.summary())
    # --8<-- [end:figures]


if __name__ == "__main__":
    main()
