"""The line from Paris to Lyon, in each of the formats of graphs that are read."""

from __future__ import annotations

GRAPHML = """<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="label" attr.type="string" for="node" id="d0"/>
  <key attr.name="Latitude" attr.type="double" for="node" id="d1"/>
  <key attr.name="Longitude" attr.type="double" for="node" id="d2"/>
  <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d3"/>
  <graph edgedefault="undirected">
    <node id="0">
      <data key="d0">Paris</data><data key="d1">48.86</data><data key="d2">2.35</data>
    </node>
    <node id="1">
      <data key="d0">Lyon</data><data key="d1">45.76</data><data key="d2">4.84</data>
    </node>
    <node id="2"><data key="d0">Nowhere</data></node>
    <edge source="0" target="1"><data key="d3">1e9</data></edge>
    <edge source="0" target="1"><data key="d3">3e9</data></edge>
    <edge source="1" target="2"/>
  </graph>
</graphml>
"""

GML = """graph [
  node [ id 0 label "Paris" Longitude 2.35 Latitude 48.86 ]
  node [ id 1 label "Lyon" Longitude 4.84 Latitude 45.76 ]
  edge [ source 0 target 1 LinkSpeedRaw 4000000000 ]
]
"""

SNDLIB = """<?xml version="1.0"?>
<network xmlns="http://sndlib.zib.de/network" version="1.0">
  <networkStructure>
    <nodes coordinatesType="geographical">
      <node id="Paris"><coordinates><x>2.35</x><y>48.86</y></coordinates></node>
      <node id="Lyon"><coordinates><x>4.84</x><y>45.76</y></coordinates></node>
    </nodes>
    <links>
      <link id="L1"><source>Paris</source><target>Lyon</target>
        <additionalModules>
          <addModule><capacity>155.0</capacity><cost>1</cost></addModule>
          <addModule><capacity>4000.0</capacity><cost>4</cost></addModule>
        </additionalModules>
      </link>
    </links>
  </networkStructure>
</network>
"""

NATIVE = """?SNDlib native format; type: network; version: 1.0
# a comment
NODES (
  Paris ( 2.35 48.86 )
  Lyon ( 4.84 45.76 )
)

LINKS (
  L1 ( Paris Lyon ) 0.00 0.00 0.00 0.00 ( 155.00 1.00 4000.00 4.00 )
)
"""

LENGTH_S = 392.5 * 5e-6
"""Paris to Lyon on the great circle, in fibre."""
