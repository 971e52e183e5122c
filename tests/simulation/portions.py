"""A portion of worlds of all kinds from one seed, as a process of its own plays it."""

from hypothesis import Phase

from tests.simulation.choices import worlds
from tests.simulation.simulate import simulations
from tests.simulation.variants import bundled_worlds, crowded_worlds, limited_worlds, linked_worlds, tasked_worlds


def play(seed: int, portion: int) -> tuple[int, str]:
    """One portion, half as many with limits, a quarter linked, a quarter of crowds, a fifth with bundles, a tenth with
    tasks; what broke, in its smallest form, or ''."""
    phases = (Phase.generate, Phase.shrink)
    try:
        simulations(portion, seed, *phases, of=worlds)()
        simulations(portion // 2, seed, *phases, of=limited_worlds)()
        simulations(portion // 4, seed, *phases, of=linked_worlds)()
        simulations(portion // 4, seed, *phases, of=crowded_worlds)()
        simulations(portion // 5, seed, *phases, of=bundled_worlds)()
        simulations(portion // 10, seed, *phases, of=tasked_worlds)()
    except BaseException as error:
        return seed, "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    return seed, ""
