//! What is where: a grid of made-up places, and the arithmetic of points on a sphere.

use tonic::Status;

use super::pb::{Feature, Point};

/// Degrees of latitude or longitude in one unit of a [`Point`] (E7).
const UNITS_PER_DEGREE: f64 = 1e7;
const MAX_LATITUDE: i32 = 900_000_000;
const MAX_LONGITUDE: i32 = 1_800_000_000;
/// Mean radius of the Earth in metres (IUGG, R1).
const EARTH_RADIUS: f64 = 6_371_008.8;

/// The grid's south-west corner: 40.1° north, 74.9° west.
const SOUTH_WEST: (i32, i32) = (401_000_000, -749_000_000);
/// A tenth of a degree between neighbours, both ways.
const STEP: i32 = 1_000_000;
/// First words, by row from south to north.
const FIRST: [&str; 10] = [
    "Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Gorse", "Hazel", "Ivy", "Juniper",
];
/// Second words, by column from west to east.
const SECOND: [&str; 10] = [
    "Bridge", "Crossing", "Dam", "Ford", "Harbor", "Lock", "Mill", "Orchard", "Quarry", "Station",
];

/// All places: a hundred, row by row from the south, each row from the west.
pub fn features() -> impl Iterator<Item = Feature> {
    let rows = FIRST.iter().zip((SOUTH_WEST.0..).step_by(STEP as usize));
    rows.flat_map(|(first, latitude)| {
        let columns = SECOND.iter().zip((SOUTH_WEST.1..).step_by(STEP as usize));
        columns.map(move |(second, longitude)| Feature {
            name: format!("{first} {second}"),
            location: Some(Point { latitude, longitude }),
        })
    })
}

/// The feature at exactly this point.
#[must_use]
pub fn feature_at(point: &Point) -> Option<Feature> {
    features().find(|feature| feature.location.as_ref() == Some(point))
}

/// The features inside a rectangle, edges included; its corners come in any order.
#[must_use]
pub fn features_within(a: Point, b: Point) -> Vec<Feature> {
    let latitudes = a.latitude.min(b.latitude)..=a.latitude.max(b.latitude);
    let longitudes = a.longitude.min(b.longitude)..=a.longitude.max(b.longitude);
    features()
        .filter(|feature| {
            feature
                .location
                .as_ref()
                .is_some_and(|at| latitudes.contains(&at.latitude) && longitudes.contains(&at.longitude))
        })
        .collect()
}

/// The point itself; one left out is 0° north, 0° east, as protobuf's defaults have it.
///
/// # Errors
/// INVALID_ARGUMENT for a point that is not on Earth.
pub fn on_earth(point: Option<Point>) -> Result<Point, Status> {
    let point = point.unwrap_or_default();
    if !(-MAX_LATITUDE..=MAX_LATITUDE).contains(&point.latitude) {
        return Err(Status::invalid_argument(format!(
            "latitude {} is not within ±{MAX_LATITUDE} (degrees times ten million)",
            point.latitude
        )));
    }
    if !(-MAX_LONGITUDE..=MAX_LONGITUDE).contains(&point.longitude) {
        return Err(Status::invalid_argument(format!(
            "longitude {} is not within ±{MAX_LONGITUDE} (degrees times ten million)",
            point.longitude
        )));
    }
    Ok(point)
}

/// Metres between two points along the great circle (haversine formula).
#[must_use]
pub fn distance(a: &Point, b: &Point) -> f64 {
    let radians = |units: i32| (f64::from(units) / UNITS_PER_DEGREE).to_radians();
    let (from, to) = (radians(a.latitude), radians(b.latitude));
    let half_height = ((to - from) / 2.0).sin();
    let half_width = ((radians(b.longitude) - radians(a.longitude)) / 2.0).sin();
    let haversine = half_height.powi(2) + from.cos() * to.cos() * half_width.powi(2);
    // Rounding can carry the antipodes past 1, where the arcsine is not a number.
    2.0 * EARTH_RADIUS * haversine.sqrt().min(1.0).asin()
}

/// Rounded, and held at the largest number that a summary can carry.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` from a float saturates, which is what is wanted"
)]
pub fn whole_metres(metres: f64) -> i32 {
    metres.round() as i32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::collections::HashSet;

    use super::*;

    fn at(latitude: i32, longitude: i32) -> Point {
        Point { latitude, longitude }
    }

    #[test]
    fn a_hundred_places_each_with_its_own_name_and_point() {
        let names: HashSet<_> = features().map(|feature| feature.name).collect();
        let points: HashSet<_> = features()
            .map(|feature| feature.location.unwrap())
            .map(|point| (point.latitude, point.longitude))
            .collect();
        assert_eq!((names.len(), points.len()), (100, 100));
    }

    #[test]
    fn the_corners_of_the_grid() {
        let name = |latitude, longitude| feature_at(&at(latitude, longitude)).map(|f| f.name);
        assert_eq!(name(401_000_000, -749_000_000).unwrap(), "Alder Bridge");
        assert_eq!(name(401_000_000, -740_000_000).unwrap(), "Alder Station");
        assert_eq!(name(410_000_000, -740_000_000).unwrap(), "Juniper Station");
        assert_eq!(name(411_000_000, -740_000_000), None);
        assert_eq!(name(401_000_001, -749_000_000), None);
    }

    #[test]
    fn a_rectangle_includes_its_edges_whichever_corners_are_given() {
        let (south_west, north_east) = (at(402_000_000, -748_000_000), at(403_000_000, -746_000_000));
        let (north_west, south_east) = (at(403_000_000, -748_000_000), at(402_000_000, -746_000_000));
        let expected = [
            "Birch Crossing",
            "Birch Dam",
            "Birch Ford",
            "Cedar Crossing",
            "Cedar Dam",
            "Cedar Ford",
        ];
        for (a, b) in [
            (south_west, north_east),
            (north_east, south_west),
            (north_west, south_east),
        ] {
            let names: Vec<_> = features_within(a, b).into_iter().map(|f| f.name).collect();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn a_degree_of_latitude_and_half_the_way_round() {
        assert_eq!(whole_metres(distance(&at(0, 0), &at(10_000_000, 0))), 111_195);
        let half = whole_metres(distance(&at(-MAX_LATITUDE, 0), &at(MAX_LATITUDE, MAX_LONGITUDE)));
        assert_eq!(half, 20_015_114);
        assert_eq!(whole_metres(f64::MAX), i32::MAX);
    }

    #[test]
    fn points_beyond_the_earth_are_refused() {
        assert!(on_earth(Some(at(MAX_LATITUDE, -MAX_LONGITUDE))).is_ok());
        assert_eq!(on_earth(None).unwrap(), at(0, 0));
        for point in [
            at(MAX_LATITUDE + 1, 0),
            at(i32::MIN, 0),
            at(0, MAX_LONGITUDE + 1),
            at(0, i32::MIN),
        ] {
            assert_eq!(
                on_earth(Some(point)).unwrap_err().code(),
                tonic::Code::InvalidArgument
            );
        }
    }
}
