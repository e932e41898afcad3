package main

import (
	"strings"
	"testing"

	"satellitemap/pb"
)

func TestTheEarthIsWhereItShouldBe(t *testing.T) {
	w, err := readWorld(earth)
	if err != nil {
		t.Fatal(err)
	}
	for place, want := range map[string]struct {
		x, y    int32
		terrain pb.Terrain
	}{
		"the Sahara":        {42, 12, pb.Terrain_TERRAIN_LAND},
		"the North Pacific": {2, 10, pb.Terrain_TERRAIN_SEA},
		"Greenland":         {31, 3, pb.Terrain_TERRAIN_ICE},
		"the south pole":    {79, 31, pb.Terrain_TERRAIN_ICE},
		"Ireland":           {38, 6, pb.Terrain_TERRAIN_COAST},
	} {
		image := w.image(&pb.Location{X: want.x, Y: want.y})
		if image.Terrain != want.terrain {
			t.Errorf("%s is %v, and should be %v", place, image.Terrain, want.terrain)
		}
		if image.Location.X != want.x || image.Location.Y != want.y {
			t.Errorf("the image of %s is one of %v", place, image.Location)
		}
	}
}

func TestADamagedMapIsRefused(t *testing.T) {
	row := strings.Repeat(".", width) + "\n"
	for reason, text := range map[string]string{
		"the map has 31 rows, and needs 32":              strings.Repeat(row, height-1),
		"the map has 33 rows, and needs 32":              strings.Repeat(row, height+1),
		"row 31 of the map has 79 columns":               strings.Repeat(row, height-1) + row[1:],
		"the map has '?' at column 0 of row 0, which is": "?" + row[1:] + strings.Repeat(row, height-1),
	} {
		if _, err := readWorld(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v should say: %s", err, reason)
		}
	}
}
