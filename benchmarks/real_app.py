"""An application of the usual size: FastAPI, pydantic, SQLAlchemy's ORM and an httpx client; 25 resources, 126 routes.

As is common, the database engine and the HTTP client are made on import and would connect on first use. The resources
differ only in their names and are not called: what counts is what their models and routes take in time and memory.
"""

import contextlib
import datetime as dt
import os
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, HTTPException, Query
from marks import STARTED, STARTING, mark
from pydantic import BaseModel, ConfigDict, Field, create_model
from sqlalchemy import ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

_RESOURCES = 25

engine = create_engine("sqlite://")
client = httpx.AsyncClient()


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    mark(STARTING)
    mark(STARTED)
    yield
    await client.aclose()
    engine.dispose()


app = FastAPI(lifespan=lifespan)


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Fields(BaseModel):
    """What every resource has."""

    model_config = ConfigDict(from_attributes=True)
    title: str = Field(max_length=200)
    published: dt.date
    price: float = Field(0, ge=0)
    tags: list[str] = []


def session() -> Iterator[Session]:
    with Session(engine) as open_session:
        yield open_session


Database = Annotated[Session, Depends(session)]


def add_resource(name: str) -> None:
    """A table, its models and its routes."""
    row = type(
        name.title(),
        (Base,),
        {
            "__tablename__": name,
            "__annotations__": {
                "id": Mapped[int],
                "title": Mapped[str],
                "published": Mapped[dt.date],
                "price": Mapped[float],
                "account_id": Mapped[int],
                "account": Mapped[Account],
            },
            "id": mapped_column(primary_key=True),
            "account_id": mapped_column(ForeignKey("account.id")),
            "account": relationship(),
        },
    )
    given: Any = create_model(f"{name.title()}In", __base__=Fields, account_id=(int, ...))
    shown: Any = create_model(f"{name.title()}Out", __base__=Fields, id=(int, ...))
    changed: Any = create_model(f"{name.title()}Change", title=(str | None, None), price=(float | None, None))

    def found(number: int, database: Database) -> Any:
        if (known := database.get(row, number)) is None:
            raise HTTPException(404, f"no such {name}")
        return known

    @app.get(f"/{name}/", response_model=list[shown])
    def list_all(database: Database, limit: Annotated[int, Query(ge=1, le=100)] = 20):
        return database.scalars(select(row).limit(limit)).all()

    @app.get(f"/{name}/{{number}}", response_model=shown)
    def show(number: int, database: Database):
        return found(number, database)

    @app.post(f"/{name}/", status_code=201, response_model=shown)
    def add(new: given, database: Database):
        made = row(**new.model_dump(exclude={"tags"}))
        database.add(made)
        database.commit()
        return made

    @app.patch(f"/{name}/{{number}}", response_model=shown)
    def change(number: int, change: changed, database: Database):
        known = found(number, database)
        for key, value in change.model_dump(exclude_unset=True).items():
            setattr(known, key, value)
        database.commit()
        return known

    @app.delete(f"/{name}/{{number}}", status_code=204)
    def delete(number: int, database: Database) -> None:
        database.delete(found(number, database))
        database.commit()


for number in range(_RESOURCES):
    add_resource(f"resource{number}")


class Item(Fields):
    id: int
    seen_by: str


@app.get("/")
async def home(limit: Annotated[int, Query(ge=1, le=100)] = 3) -> list[Item]:
    """What each request of the benchmark asks for: a parameter checked, models made and serialised."""
    day = dt.date(2026, 1, 1)
    return [
        Item(
            id=number, title=f"Item {number}", published=day, seen_by=f"worker {os.getpid()}", tags=["a", "b"]
        )
        for number in range(limit)
    ]
