"""The floor: FastAPI checks the same body and answers a constant."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Split(BaseModel):
    """Rows as MLflow's ``dataframe_split``."""

    columns: list[str]
    data: list[list[float]]


class Body(BaseModel):
    """A request."""

    dataframe_split: Split


class Answer(BaseModel):
    """An answer."""

    predictions: list[int]


@app.post("/predict")
async def predict(body: Body) -> Answer:
    """Give the same answer to every request."""
    return Answer(predictions=[0])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
