"""Creates and describes topics through Kafka's admin protocol (blocking; call it from a thread inside a loop)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from pipeline.base.topics import TopicSpec, TopicState

_REQUEST_TIMEOUT_S = 15


class BrokerUnreachable(Exception):
    """No broker answered; the message is one line for a person."""


def connect_admin(bootstrap_servers: str) -> AdminClient:
    """An admin client that has reached a broker, or BrokerUnreachable."""
    admin = AdminClient(
        {
            "bootstrap.servers": bootstrap_servers,
            "socket.connection.setup.timeout.ms": 5_000,
            "metadata.max.age.ms": 5_000,  # after a restart the broker refuses whoever remembers an old leader's epoch
            "log_level": 0,
        }
    )
    try:
        admin.list_topics(timeout=_REQUEST_TIMEOUT_S)
    except KafkaException as error:
        raise BrokerUnreachable(
            f"no Kafka broker answers at {bootstrap_servers} ({error.args[0].name()}): "
            "check PSTN_BOOTSTRAP_SERVERS or --bootstrap"
        ) from error
    return admin


def touch_topics(admin: AdminClient, prefix: str, names: Iterable[str]) -> dict[str, TopicState]:
    """The embedded broker's topics: made by being asked for; it knows neither ids nor settings."""
    states = {}
    for name in names:
        partitions = admin.list_topics(prefix + name, timeout=_REQUEST_TIMEOUT_S).topics[prefix + name].partitions
        states[name] = TopicState(name=name, topic_id="", partition_count=len(partitions), configs={})
    return states


def describe_topics(admin: AdminClient, prefix: str, names: Iterable[str]) -> dict[str, TopicState]:
    """State of each topic that exists, by its name without the prefix."""
    wanted = {prefix + name: name for name in names}
    listed = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    present = [full for full in wanted if full in listed]
    if not present:
        return {}
    described = admin.describe_topics(TopicCollection(present), request_timeout=_REQUEST_TIMEOUT_S)
    resources = [ConfigResource(ResourceType.TOPIC, full) for full in present]
    configs = admin.describe_configs(resources, request_timeout=_REQUEST_TIMEOUT_S)
    states = {}
    for resource in resources:
        full = resource.name
        description = described[full].result()
        entries: dict[str, Any] = configs[resource].result()
        states[wanted[full]] = TopicState(
            name=wanted[full],
            topic_id=str(description.topic_id),
            partition_count=len(description.partitions),
            configs={key: str(entry.value) for key, entry in entries.items()},
            replica_count=min(len(partition.replicas) for partition in description.partitions),
            in_sync_count=min(len(partition.isr) for partition in description.partitions),
        )
    return states


def create_topics(
    admin: AdminClient, prefix: str, specs: Iterable[TopicSpec], *, partition_count: int, replication_factor: int
) -> list[str]:
    """Creates what is missing; full names of the topics made. KafkaException when the broker refuses one."""
    existing = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    new = [
        NewTopic(
            prefix + spec.name,
            num_partitions=partition_count,
            replication_factor=replication_factor,
            config=dict(spec.configs),
        )
        for spec in specs
        if prefix + spec.name not in existing
    ]
    if new:
        for future in admin.create_topics(new, operation_timeout=_REQUEST_TIMEOUT_S).values():
            future.result()
    return [topic.topic for topic in new]


def repair_configs(admin: AdminClient, prefix: str, specs: Iterable[TopicSpec]) -> None:
    """Sets every setting of the specs on topics that exist."""
    resources = []
    for spec in specs:
        changes = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in spec.configs.items()
        ]
        resources.append(ConfigResource(ResourceType.TOPIC, prefix + spec.name, incremental_configs=changes))
    for future in admin.incremental_alter_configs(resources, request_timeout=_REQUEST_TIMEOUT_S).values():
        future.result()
