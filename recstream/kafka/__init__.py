"""Kafka as every service uses it: the consume loop, confirmed producing, tails, dead letters and topics."""
