"""Hello world: a market in which 5 % of each bar's variance can be forecast, and what gatecast finds in it."""

import gatecast

bars = gatecast.market.synthetic.b1(1500, seed=3, r2=0.05)  # six years of daily bars; column x tells a little

experiment = gatecast.Experiment(
    name="hello world",
    too_good="planted",  # five percent is more than an honest market gives
    bars=bars,
    features=("ret_log_1", "x"),
    model={  # small, so that this takes seconds
        "lstm": gatecast.LSTM(units=16, layers=1, seeds=1, epochs=10),
        "forest": gatecast.Forest(trees=20),
    },
    schedule=gatecast.Schedule(refit="6M"),
)
run = gatecast.run(experiment)

print(run.scores["summary"]["headline"])
print(run.summary())
print(run.signals.select("time", "signal", "strategy", "evidence").tail(3))
