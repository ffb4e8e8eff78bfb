"""What serves: devices, nodes, links, topologies, availability."""
