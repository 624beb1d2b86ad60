//! JSON to Python and back, on Python's thread.

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use serde_json::{Map, Number, Value};

use super::text;

/// Deeper values are refused: the recursion would end the process.
const DEEPEST: usize = 128;

/// The dict of a JSON object; an empty one for anything else. If there is none, the field at fault
/// comes with the error.
pub(super) fn to_dict<'py, 'v>(
    py: Python<'py>,
    value: &'v Value,
) -> Result<Bound<'py, PyDict>, (&'v str, PyErr)> {
    let dict = PyDict::new(py);
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            to_python_at(py, value, 1)
                .and_then(|value| dict.set_item(name, value))
                .map_err(|error| (&**name, error))?;
        }
    }
    Ok(dict)
}

/// The JSON value of a Python object made of dicts, lists, tuples, strings, numbers, booleans and
/// None. What is no Unicode in a string is replaced, see [`text`].
pub(super) fn from_python(object: &Bound<'_, PyAny>) -> PyResult<Value> {
    from_python_at(object, 0)
}

/// A JSON value as a Python object.
pub(super) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    to_python_at(py, value, 0)
}

/// The JSON object of a dict.
pub(super) fn fields(dict: &Bound<'_, PyDict>) -> PyResult<Map<String, Value>> {
    match from_python(dict)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(Map::new()),
    }
}

fn to_python_at<'py>(py: Python<'py>, value: &Value, depth: usize) -> PyResult<Bound<'py, PyAny>> {
    check(depth)?;
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(n), _, _) => n.into_pyobject(py)?.into_any(),
            (_, Some(n), _) => n.into_pyobject(py)?.into_any(),
            (_, _, Some(n)) => PyFloat::new(py, n).into_any(),
            _ => return Err(PyValueError::new_err(format!("{number} is out of range"))),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python_at(py, item, depth + 1)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, value) in fields {
                dict.set_item(name, to_python_at(py, value, depth + 1)?)?;
            }
            dict.into_any()
        }
    })
}

fn from_python_at(object: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    check(depth)?;
    if let Ok(text) = object.cast::<PyString>() {
        return text::read(text).map(Value::String);
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    // A bool is an int to Python, so it is asked for first.
    if let Ok(flag) = object.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if object.cast::<PyInt>().is_ok() {
        if let Ok(n) = object.extract::<i64>() {
            return Ok(n.into());
        }
        return Ok(object.extract::<u64>()?.into());
    }
    if let Ok(number) = object.cast::<PyFloat>() {
        let number = number.value();
        return Number::from_f64(number).map(Value::Number).ok_or_else(|| {
            PyValueError::new_err(format!(
                "JSON has no number for {number}; return None instead"
            ))
        });
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        let mut fields = Map::with_capacity(dict.len());
        for (name, value) in dict.iter() {
            let name = name.cast::<PyString>().map_err(|_| {
                PyTypeError::new_err(format!("the key {name} of a JSON object is no string"))
            })?;
            fields.insert(text::read(name)?, from_python_at(&value, depth + 1)?);
        }
        return Ok(Value::Object(fields));
    }
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        let items = object.try_iter()?;
        return items
            .map(|item| from_python_at(&item?, depth + 1))
            .collect();
    }
    Err(PyTypeError::new_err(format!(
        "JSON has no value for a {}",
        object.get_type().name()?
    )))
}

fn check(depth: usize) -> PyResult<()> {
    if depth > DEEPEST {
        return Err(PyValueError::new_err(format!(
            "the value is nested deeper than {DEEPEST}"
        )));
    }
    Ok(())
}
