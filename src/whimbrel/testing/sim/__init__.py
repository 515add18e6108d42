"""A seeded simulation of many processes over one store, in virtual time: `docs/concepts/simulation.md`."""

from whimbrel.testing.sim.simulation import Result, Simulation, simulate
from whimbrel.testing.sim.skirmishes import skirmish
from whimbrel.testing.sim.world import Conditions, Process, World

__all__ = ["Conditions", "Process", "Result", "Simulation", "World", "simulate", "skirmish"]
