//! A line through measured points.

/// How a reading grows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slope {
    /// By how much for each unit.
    pub(crate) slope: f64,
    /// The standard error of that.
    pub(crate) error: f64,
}

impl Slope {
    /// The line of the least squares through points of x and y.
    pub(crate) fn through(points: &[(f64, f64)]) -> Self {
        let n = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
        let xx: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let xy: f64 = points
            .iter()
            .map(|(x, y)| (x - mean_x) * (y - mean_y))
            .sum();
        let slope = xy / xx;
        let residual = |(x, y): &(f64, f64)| y - mean_y - slope * (x - mean_x);
        let squares: f64 = points.iter().map(|point| residual(point).powi(2)).sum();
        Self {
            slope,
            error: (squares / (n - 2.0) / xx).sqrt(),
        }
    }
}
