"""Bodies of requests: the fields of records.md's commands, by its names. Unknown fields are an error. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.base.calendar import parse_time
from pipeline.cdr.command import LICENCES_OF_A_USER_MAX, MICROS_MAX
from pipeline.charge.policy import DEFAULT_POLICY

Id = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=256)]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Positive = Annotated[int, Field(gt=0, le=MICROS_MAX, strict=True, description="micro-units of the currency")]
NotNegative = Annotated[int, Field(ge=0, le=MICROS_MAX, strict=True, description="micro-units of the currency")]
Time = Annotated[str, Field(max_length=40, examples=["2026-03-01T10:00:00Z"], description="RFC 3339 with Z")]
Method = Literal["card", "enterprise_agreement", "other"]


class Body(BaseModel):
    """The common form: nothing but what is named."""

    model_config = ConfigDict(extra="forbid")

    def fields(self) -> dict[str, object]:
        """As a command has them: times in ms. ValueError for a time that is none."""
        given = self.model_dump()
        for name in ("purchased_at", "paid_at", "start_time"):
            if isinstance(given.get(name), str):
                given[name] = parse_time(given[name])
        return given


class OpenAccount(Body):
    country: Country
    currency: Text = "USD"
    tariff: Text
    tariff_per_minute_conferencing: Text | None = None
    agreement: Literal["prepaid", "postpaid"] = "prepaid"
    overage_enabled: Annotated[bool, Field(strict=True)] = False
    dial_out_policy: Text = DEFAULT_POLICY


class AddFunds(Body):
    amount_micros: Positive
    currency: Text
    purchased_at: Time | None = Field(None, description="now when absent")
    payment_method: Method = "other"
    enterprise_agreement_no: Text | None = None
    purchase_order_no: Text | None = None
    reference: Text = ""


class SetAutoRecharge(Body):
    enabled: Annotated[bool, Field(strict=True)]
    trigger_micros: NotNegative
    amount_micros: NotNegative
    monthly_budget_micros: NotNegative | None = None
    payment_method: Method = "card"
    enterprise_agreement_no: Text | None = None
    purchase_order_no: Text | None = None


class SetUser(Body):
    country: Country | None = None
    licences: Annotated[list[Text], Field(max_length=LICENCES_OF_A_USER_MAX)]
    dial_out_policy: Text | None = None
    spend_cap_micros: NotNegative | None = None
    upn: Text | None = None
    display_name: Text | None = None
    is_resource_account: Annotated[bool, Field(strict=True)] = False


class AssignLicences(Body):
    user_ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)]
    add: list[Text] = []
    remove: list[Text] = []


class PurchasedLicences(Body):
    count: Annotated[int, Field(ge=0, le=2**53 - 1, strict=True)]


class SetPolicy(Body):
    dial_out_policy: Text


class RefundCall(Body):
    usage_id: Id
    reason: Text


class RechargeAnswer(Body):
    succeeded: Annotated[bool, Field(strict=True)]
    reason: Text | None = None
    paid_at: Time | None = Field(None, description="when the money came; now when absent")


class Ask(Body):
    """A call before or while it is made."""

    tenant_id: Id
    user_id: Id | None = None
    call_type: Annotated[str, Field(examples=["user_out"], max_length=64)]
    number_type: Text | None = None
    caller_number: Annotated[str | None, Field(examples=["+12065550100"], max_length=20)] = None
    callee_number: Annotated[str | None, Field(examples=["+493012345678"], max_length=20)] = None
    usage_country: Country | None = None
    start_time: Time | None = Field(None, description="of a call that is under way; now when absent")


class ReadModel(BaseModel):
    """How fresh an answer is."""

    as_of: str | None = Field(description="everything that was committed before this instant is in it; null: unknown")
    behind: int = Field(description="records of the credit table that are known and not read yet")


class CommandResult(BaseModel):
    """What became of a command."""

    command_id: str
    result: Literal["applied", "partly_applied"]
    reason: str | None = None
    detail: str | None = None
    at: str | None = Field(None, description="when the broker took it")


class AuthorizeResult(BaseModel):
    """Nothing is reserved: two calls at once may be promised the same money."""

    allowed: bool
    reason: str | None = Field(description="as `unpaid`'s reasons, a free call's, or a reject's")
    max_duration_s: int = Field(description="paid by what is there: pool, balance, spend cap, or billed afterwards")
    max_duration_with_recharge_s: int = Field(description="and by what auto-recharge may still bring in this month")
    pool_minutes: int
    rate_micros_per_minute: int | None
    connection_fee_micros: int | None
    currency: str | None
    read_model: ReadModel
