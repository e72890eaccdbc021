"""Accounts and users as bytes, by code of their own: with many tenants a ledger packs and unpacks one for each call.

The same bytes as the codec's (tested). What is alike in many records, or seldom changes in one, stands side by side in
them: terms, an account's `Rest`, a user's `Profile`. Such a run of fields is cut out, and looked up in one dict; what
its bytes mean is made once. The codec reads what is of a former schema, and says what is wrong with other bytes.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from pipeline.base.avro import HEADER_BYTES, codec
from pipeline.base.avro_bytes import (
    Malformed,
    encode_long,
    encode_text,
    end_of_items,
    is_present,
    read_bool,
    read_count,
    read_length,
    read_long,
    read_text,
    skip_optional_long,
    skip_optional_text,
    skip_text,
    skip_texts,
)
from pipeline.base.avro_kinds import Record
from pipeline.base.calendar import next_month_starts_at
from pipeline.charge.subscriber import Terms
from pipeline.debit.account import (
    NEVER_MS,
    NO_REFUNDS,
    Account,
    BudgetMonth,
    Lot,
    PaymentData,
    PoolUse,
    Profile,
    RechargeSettings,
    Recharging,
    RefundQueue,
    Request,
    Rest,
    Seats,
    Spend,
    User,
    UserSettings,
)

REMEMBERED_COUNT_MAX: Final = 8_192
"""Runs of each kind whose meaning is kept: about 4 MB."""
REMEMBERED_BYTES_MAX: Final = 512
# A tuple's values come typed from the codec by the schema; Any here is "as the schema says".
Values = tuple[Any, ...]

_ACCOUNT: Final = codec("account")
_USER: Final = codec("user")
_ACCOUNT_HEADER: Final[bytes] = _ACCOUNT.header
_USER_HEADER: Final[bytes] = _USER.header
_TERMS: Final = slice(2, 9)
_REST: Final = slice(16, None)
_PROFILE: Final = slice(2, 11)
_terms_record: Final = Record(_ACCOUNT.typed_fields[_TERMS], as_dict=False)
_rest_record: Final = Record(_ACCOUNT.typed_fields[_REST], as_dict=False)
_profile_record: Final = Record(_USER.typed_fields[_PROFILE], as_dict=False)

_BOOL: Final = (b"\x00", b"\x01")
_NULL: Final = b"\x00"
_PRESENT: Final = b"\x02"
_NO_ITEMS: Final = b"\x00"

_terms: Final[dict[bytes, Terms]] = {}
_terms_bytes: Final[dict[Terms, bytes]] = {}
_rests: Final[dict[bytes, Rest]] = {}
_profiles: Final[dict[bytes, Profile]] = {}
_names: Final[dict[bytes, str]] = {}
"""Months and pool names."""
_Key = TypeVar("_Key")
_Meaning = TypeVar("_Meaning")


def _remember(known: dict[_Key, _Meaning], key: _Key, meaning: _Meaning, size: int) -> None:
    if size <= REMEMBERED_BYTES_MAX:
        if len(known) >= REMEMBERED_COUNT_MAX:
            known.clear()
        known[key] = meaning


def encode_account(account: Account) -> bytes:
    """The message of an account."""
    terms = _terms_bytes.get(account.terms)
    if terms is None:
        terms = _terms_record.encode(account.terms)
        _remember(_terms_bytes, account.terms, terms, len(terms))
    lots = account.lots
    zero_at = account.zero_at
    parts = [_ACCOUNT_HEADER, encode_long(account.due_at), encode_text(account.tenant_id), terms]
    if lots:
        parts.append(encode_long(len(lots)))
        for lot in lots:
            parts.append(encode_text(lot.lot_id))
            parts.append(encode_long(lot.purchased_at))
            parts.append(encode_long(lot.arrival))
            parts.append(encode_long(lot.expires_at))
            parts.append(encode_long(lot.amount_micros))
            parts.append(encode_long(lot.remaining_micros))
            parts.append(_BOOL[lot.is_expiry_announced])
    parts.append(_NO_ITEMS)
    parts.append(encode_long(account.lot_count))
    parts.append(encode_long(account.overdraft_micros))
    parts.append(_NULL if zero_at is None else _PRESENT + encode_long(zero_at))
    parts.append(_BOOL[account.is_suspended])
    parts.append(_BOOL[account.is_funded])
    parts.append(_BOOL[account.is_switch_announced])
    parts.append(_rest_of(account).encoded)
    return b"".join(parts)


def _rest_of(account: Account) -> Rest:
    """The account's rest as it was unpacked, unless a part of it has been replaced since."""
    rest = account.rest
    if (
        rest is None
        or rest.recharging is not account.recharging
        or rest.seats is not account.seats
        or rest.purchased is not account.purchased
        or rest.unpriced_days is not account.unpriced_days
        or rest.first_month is not account.first_month
        or rest.refunds is not account.refunds
    ):
        rest = account.rest = Rest(
            _rest_record.encode(rest_values(account)),
            account.recharging,
            account.seats,
            account.purchased,
            account.unpriced_days,
            account.first_month,
            account.refunds,
        )
    return rest


def rest_values(account: Account) -> Values:
    """The last fields of an account's record."""
    settings, in_flight, failed, failure_count, backoff_until, budget_months = account.recharging
    return (
        *settings[:4],
        *settings.payment,
        None if in_flight is None else _request_values(in_flight),
        [_request_values(request) for request in failed],
        failure_count,
        backoff_until,
        budget_months,
        account.seats,
        account.purchased,
        account.unpriced_days,
        account.first_month,
        *account.refunds,
    )


def _request_values(request: Request) -> Values:
    return (*request[:4], *request.payment)


def decode_account(value: bytes) -> Account:
    """An account as it was committed; DecodeError when the bytes are no account."""
    if value.startswith(_ACCOUNT_HEADER):
        try:
            return _unpack_account(value)
        except (Malformed, IndexError, UnicodeDecodeError):
            pass  # the codec says what is wrong
    return account_of(_ACCOUNT.decode_values(value))


def _unpack_account(value: bytes) -> Account:
    tenant_id, at = read_text(value, read_long(value, HEADER_BYTES)[1])
    start = at
    at = skip_text(value, skip_text(value, skip_text(value, at)))  # country, currency, tariff
    at = skip_text(value, skip_optional_text(value, at))  # the other tariff, agreement
    at = skip_text(value, at + 1)  # overage, policy
    account = Account(tenant_id, _terms_of(value[start:at]))
    held_micros, due_at = 0, NEVER_MS
    count, at = read_count(value, at)
    if count:
        for _ in range(count):
            lot, at = _unpack_lot(value, at)
            account.lots.append(lot)
            held_micros += lot.remaining_micros
            due_at = min(due_at, lot.due_at)
        at = end_of_items(value, at)
    account.lots_due_at = due_at
    account.lot_count, at = read_long(value, at)
    account.overdraft_micros, at = read_long(value, at)
    account.balance_micros = held_micros - account.overdraft_micros
    if is_present(value, at):
        account.zero_at, at = read_long(value, at + 1)
    else:
        at += 1
    account.is_suspended = read_bool(value, at)
    account.is_funded = read_bool(value, at + 1)
    account.is_switch_announced = read_bool(value, at + 2)
    encoded = value[at + 3 :]
    rest = _rests.get(encoded)
    if rest is None:
        rest = _rest(encoded, _rest_record.read_all(encoded, 0))
        _remember(_rests, encoded, rest, len(encoded))
    _take_rest(account, rest)
    return account


def _unpack_lot(value: bytes, at: int) -> tuple[Lot, int]:
    lot_id, at = read_text(value, at)
    purchased_at, at = read_long(value, at)
    arrival, at = read_long(value, at)
    expires_at, at = read_long(value, at)
    amount_micros, at = read_long(value, at)
    remaining_micros, at = read_long(value, at)
    is_announced = read_bool(value, at)
    return Lot(lot_id, purchased_at, arrival, expires_at, amount_micros, remaining_micros, is_announced), at + 1


def _terms_of(encoded: bytes) -> Terms:
    """Many tenants have the same terms: one object for all of them."""
    terms = _terms.get(encoded)
    if terms is None:
        values: Any = _terms_record.read_all(encoded, 0)
        terms = Terms(*values)
        _remember(_terms, encoded, terms, len(encoded))
    return terms


def _take_rest(account: Account, rest: Rest) -> None:
    account.rest = rest
    account.recharging = rest.recharging
    account.seats = rest.seats
    account.purchased = rest.purchased
    account.unpriced_days = rest.unpriced_days
    account.first_month = rest.first_month
    account.first_month_ends_at = next_month_starts_at(rest.first_month) if rest.first_month else NEVER_MS
    account.refunds = rest.refunds


def _rest(encoded: bytes, values: Any) -> Rest:
    """What the last fields of an account's record mean."""
    enabled, trigger, amount, budget, method, agreement_no, order_no, in_flight, failed, *others = values
    failure_count, backoff_until, months, seats, purchased, days, first_month, *refunds = others
    settings = RechargeSettings(enabled, trigger, amount, budget, PaymentData(method, agreement_no, order_no))
    return Rest(
        encoded,
        Recharging(
            settings,
            None if in_flight is None else _request(in_flight),
            tuple([_request(request) for request in failed]),
            failure_count,
            backoff_until,
            tuple([BudgetMonth(*month) for month in months]),
        ),
        tuple([Seats(*each) for each in seats]),
        tuple([(sku, count) for sku, count in purchased]),
        tuple([(day, country) for day, country in days]),
        first_month,
        RefundQueue(*refunds) if refunds[0] else NO_REFUNDS,
    )


def _request(values: Values) -> Request:
    recharge_id, amount_micros, month, failed_at, *payment = values
    return Request(recharge_id, amount_micros, month, failed_at, PaymentData(*payment))


def account_of(values: Values) -> Account:
    """An account from the values of its record, as the codec reads them."""
    account = Account(values[1], Terms(*values[_TERMS]))
    account.lots = [Lot(*lot) for lot in values[9]]
    account.lots_due_at = min([lot.due_at for lot in account.lots], default=NEVER_MS)
    account.lot_count, account.overdraft_micros, account.zero_at = values[10:13]
    account.is_suspended, account.is_funded, account.is_switch_announced = values[13:16]
    account.balance_micros = sum([lot.remaining_micros for lot in account.lots]) - account.overdraft_micros
    _take_rest(account, _rest(_rest_record.encode(values[_REST]), values[_REST]))
    return account


def encode_user(user: User) -> bytes:
    """The message of a user."""
    parts = [_USER_HEADER, encode_text(user.tenant_id), encode_text(user.user_id), _profile_of(user).encoded]
    if user.months:
        parts.append(encode_long(len(user.months)))
        for month, spend in user.months.items():
            parts.append(encode_text(month))
            parts.append(encode_long(spend.spent_micros))
            parts.append(_BOOL[spend.is_cap_announced])
    parts.append(_NO_ITEMS)
    if user.pools:
        parts.append(encode_long(len(user.pools)))
        for (month, name), use in user.pools.items():
            parts.append(encode_text(month))
            parts.append(encode_text(name))
            parts.append(encode_long(use.used_minutes))
            parts.append(_BOOL[use.is_80_announced])
            parts.append(_BOOL[use.is_100_announced])
    parts.append(_NO_ITEMS)
    return b"".join(parts)


def _profile_of(user: User) -> Profile:
    """The user's profile as it was unpacked, unless a part of it has been replaced since."""
    profile = user.profile
    if (
        profile is None
        or profile.settings is not user.settings
        or profile.removed_at != user.removed_at
        or profile.seats is not user.seats
    ):
        values = (*user.settings, user.removed_at, user.seats)
        profile = Profile(_profile_record.encode(values), user.settings, user.removed_at, user.seats)
        user.profile = profile
    return profile


def decode_user(value: bytes) -> User:
    """A user as committed; DecodeError when the bytes are none."""
    if value.startswith(_USER_HEADER):
        try:
            return _unpack_user(value)
        except (Malformed, IndexError, UnicodeDecodeError):
            pass  # the codec says what is wrong
    return user_of(_USER.decode_values(value))


def _unpack_user(value: bytes) -> User:
    tenant_id, at = read_text(value, HEADER_BYTES)
    user_id, at = read_text(value, at)
    start = at
    at = skip_texts(value, skip_optional_text(value, at))  # country, licences
    at = skip_optional_long(value, skip_optional_text(value, at))  # policy, cap
    at = skip_optional_text(value, skip_optional_text(value, at))  # sign-in name, name
    at = skip_texts(value, skip_optional_long(value, at + 1))  # resource account, removed, seats
    encoded = value[start:at]
    profile = _profiles.get(encoded)
    if profile is None:
        profile = _profile(encoded, _profile_record.read_all(encoded, 0))
        _remember(_profiles, encoded, profile, len(encoded))
    user = _user(tenant_id, user_id, profile)
    count, at = read_count(value, at)
    if count:
        for _ in range(count):
            month, at = _read_name(value, at)
            spent_micros, at = read_long(value, at)
            user.months[month] = Spend(spent_micros, read_bool(value, at))
            at += 1
        at = end_of_items(value, at)
    count, at = read_count(value, at)
    if count:
        for _ in range(count):
            month, at = _read_name(value, at)
            name, at = _read_name(value, at)
            used_minutes, at = read_long(value, at)
            user.pools[month, name] = PoolUse(used_minutes, read_bool(value, at), read_bool(value, at + 1))
            at += 2
        at = end_of_items(value, at)
    if at != len(value):
        raise Malformed("bytes are left over")
    return user


def _read_name(value: bytes, at: int) -> tuple[str, int]:
    """A month or a pool's name: one text for all users."""
    length, start = read_length(value, at)
    end = start + length
    encoded = value[start:end]
    name = _names.get(encoded)
    if name is None:
        name = encoded.decode()
        _remember(_names, encoded, name, length)
    return name, end


def _profile(encoded: bytes, values: Any) -> Profile:
    country, licences, policy, cap_micros, upn, name, is_resource, removed_at, seats = values
    settings = UserSettings(country, tuple(licences), policy, cap_micros, upn, name, is_resource)
    return Profile(encoded, settings, removed_at, tuple(seats))


def _user(tenant_id: str, user_id: str, profile: Profile) -> User:
    user = User(tenant_id, user_id, profile.settings)
    user.profile = profile
    user.removed_at = profile.removed_at
    user.seats = profile.seats
    return user


def user_of(values: Values) -> User:
    """A user from the values of his record, as the codec reads them."""
    run = values[_PROFILE]
    user = _user(values[0], values[1], _profile(_profile_record.encode(run), run))
    user.months = {month: Spend(spent_micros, is_announced) for month, spent_micros, is_announced in values[11]}
    user.pools = {(month, name): PoolUse(*use) for month, name, *use in values[12]}
    return user
