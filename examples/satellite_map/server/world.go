package main

import (
	_ "embed"
	"fmt"
	"strings"

	"satellitemap/pb"
)

// The Earth, a character for each location: sea, coast, land or ice by how much of it is land. The shares of land are
// those of GLOBE, a public-domain elevation model of the United States' NOAA.
//
//go:embed map.txt
var earth string

const (
	width  = 80
	height = 32
)

var terrains = map[rune]pb.Terrain{
	'.': pb.Terrain_TERRAIN_SEA,
	'+': pb.Terrain_TERRAIN_COAST,
	'#': pb.Terrain_TERRAIN_LAND,
	'*': pb.Terrain_TERRAIN_ICE,
}

// A world is what there is at each location, by row and column.
type world [height][width]pb.Terrain

// readWorld reads a map like map.txt.
func readWorld(text string) (*world, error) {
	rows := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(rows) != height {
		return nil, fmt.Errorf("the map has %d rows, and needs %d", len(rows), height)
	}
	var w world
	for y, row := range rows {
		cells := []rune(row)
		if len(cells) != width {
			return nil, fmt.Errorf("row %d of the map has %d columns, and needs %d", y, len(cells), width)
		}
		for x, cell := range cells {
			terrain, known := terrains[cell]
			if !known {
				return nil, fmt.Errorf("the map has %q at column %d of row %d, which is no terrain", cell, x, y)
			}
			w[y][x] = terrain
		}
	}
	return &w, nil
}

// onMap says what is wrong with a location.
func onMap(location *pb.Location) error {
	if x := location.GetX(); x < 0 || x >= width {
		return fmt.Errorf("x is %d, and the map has the columns 0 to %d", x, width-1)
	}
	if y := location.GetY(); y < 0 || y >= height {
		return fmt.Errorf("y is %d, and the map has the rows 0 to %d", y, height-1)
	}
	return nil
}

// image is what there is at a location on the map.
func (w *world) image(location *pb.Location) *pb.Image {
	return &pb.Image{Location: location, Terrain: w[location.GetY()][location.GetX()]}
}
