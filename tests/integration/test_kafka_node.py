"""The local Apache Kafka of tests, benchmarks and the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.embedded.kafka_io import KafkaNode, fetch_jars

pytestmark = pytest.mark.kafka

STARTS_ONE = """
from pipeline.embedded.kafka_io import KafkaNode
node = KafkaNode().start()
print(node.pid, node.folder, flush=True)
input()
"""


def test_a_killed_node_comes_back_on_its_port_with_its_data() -> None:
    """Tests of crashes rest on it: what was acknowledged is there, and clients find the node again."""
    with KafkaNode() as node:
        settings = {"bootstrap.servers": node.bootstrap, "log_level": 0}
        admin = AdminClient(settings)
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result()
        producer = Producer(settings | {"acks": "all"})
        producer.produce("kept", b"value", partition=0)
        assert producer.flush(10) == 0
        before = node.bootstrap
        node.kill()
        assert not node.is_running
        node.start()
        assert node.bootstrap == before
        consumer = Consumer(settings | {"group.id": "reader", "auto.offset.reset": "earliest"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        message = consumer.poll(20)
        consumer.close()
        assert message is not None
        assert message.value() == b"value"
    assert not node.folder.exists()


def test_a_node_does_not_outlive_the_process_that_started_it() -> None:
    """A test run that is killed would otherwise leave half a gigabyte of Java behind each time."""
    fetch_jars()
    owner = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid, folder = owner.stdout.readline().split()
    assert Path(f"/proc/{pid}").exists()
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s and (_is_alive(pid) or Path(folder).exists()):
        time.sleep(0.05)
    assert not _is_alive(pid)
    assert not Path(folder).exists()


def _is_alive(pid: str) -> bool:
    """A process whose new parent has not asked after it yet is a zombie, and dead all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
