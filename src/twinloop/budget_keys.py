"""The keys of a workload file on what its runs may use."""

from pydantic import Field

from twinloop.vocabulary import Frozen


class Allowance(Frozen):
    """An upper bound of money, energy and time; none where nothing is given."""

    money: float | None = Field(None, gt=0, description="In the workload's currency")
    kwh: float | None = Field(None, gt=0, description="Kilowatt hours")
    minutes: float | None = Field(None, gt=0, description="Minutes by the clock")


class LoopBudget(Frozen):
    """What a loop may use."""

    run: Allowance = Field(Allowance(), description="What one run may use")
    month: Allowance = Field(
        Allowance(), description="What all its runs of a calendar month (UTC) may use together"
    )


class InferenceBudget(LoopBudget):
    """What the inference loop may use."""

    hard: bool = Field(
        False, description="Whether scoring stops where a budget is spent, or goes on and says so"
    )


class Budgets(Frozen):
    """What the runs of a workload may use: of each loop, and of all together."""

    training: LoopBudget = LoopBudget()
    inference: InferenceBudget = InferenceBudget()
    month: Allowance = Field(
        Allowance(), description="What all runs of a calendar month (UTC) may use together"
    )
