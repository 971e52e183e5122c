"""Each peer beside us in one run, on one machine; figures are ratios, with the load and the spread printed."""
