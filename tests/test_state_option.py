"""Where a factory keeps state, and how middlewares come by it."""

import asyncio

import pytest
from pydantic import BaseModel

from neuro_mw import ConfigError, Middleware, MiddlewareFactory, MiddlewareMetadata, MiddlewareRegistry
from neuro_mw.state import Store, open_store


class Keeping(Middleware):
    metadata = MiddlewareMetadata(id="keeping")
    uses_store = True

    class Config(BaseModel):
        store: str | None = None
        size: int = 1

    def __init__(self, config=None, /, **options):
        super().__init__(config, **options)
        if self.config.store:
            self.store = open_store(self.config.store)


class Plain(Middleware):
    metadata = MiddlewareMetadata(id="plain")


def factory_of(*middlewares, **options):
    return MiddlewareFactory(preset=None, plugins=False, middleware=middlewares, **options)


def test_each_factory_has_a_store_of_its_own():
    one, two = factory_of(Keeping), factory_of(Keeping)
    first, second = (factory.registry.get("keeping").store for factory in (one, two))
    assert first.url == second.url == "memory://"
    assert first is not second


def test_all_instances_of_a_factory_share_it():
    factory = factory_of(Keeping, Plain)
    factory.register(Keeping, id="other")
    factory.register(lambda: Keeping(size=5), id="made")
    factory.register(Keeping(size=7), id="given")
    stores = {id: factory.registry.get(id).store for id in ("keeping", "other", "made", "given")}
    assert len({id_of(store) for store in stores.values()}) == 1
    assert factory.registry.get("plain").store is None


def id_of(store: Store) -> int:
    return id(store)


def test_a_config_may_name_another_one():
    factory = factory_of(Keeping, state="memory", middleware_config={"keeping": {"config": {"store": "memory://"}}})
    assert factory.registry.get("keeping").store is not factory.registry.store()


def test_a_registry_alone_has_one_too():
    registry = MiddlewareRegistry()
    registry.register(Keeping)
    assert registry.get("keeping").store is registry.store()


def test_the_environment_names_it(monkeypatch, tmp_path):
    monkeypatch.setenv("NEURO_MW_STATE", f"sqlite:///{tmp_path}/state.db")
    assert factory_of(Keeping).registry.store().url.startswith("sqlite:")
    assert factory_of(Keeping, state="memory://").registry.store().url == "memory://"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("reddis://host", r"state: the scheme is not known.*Did you mean 'redis'"),
        ("mem", "state: "),
        (5, "state: it is of type int"),
    ],
)
def test_what_is_no_store(state, said):
    with pytest.raises(ConfigError, match=said):
        factory_of(state=state)


def test_what_is_no_store_in_a_file_or_in_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "neuro_mw.toml"
    file.write_text('state = "reddis://user:hunter2@host"\n', "utf-8")
    with pytest.raises(ConfigError, match=r"neuro_mw\.toml.*state") as caught:
        MiddlewareFactory.from_file(file)
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("NEURO_MW_STATE", "reddis://user:hunter2@host")
    with pytest.raises(ConfigError, match="NEURO_MW_STATE") as caught:
        factory_of()
    assert "hunter2" not in str(caught.value)


def test_an_instance_is_in_one_place_only(tmp_path):
    shared = Keeping()
    factory_of(shared)
    factory_of(shared)  # in memory, too: it stays where it is
    with pytest.raises(ConfigError, match=r"middleware\.keeping: this instance has its state in memory://"):
        factory_of(shared, state=f"sqlite:///{tmp_path}/state.db")


def test_leaving_the_factory_closes_it(tmp_path):
    async def use():
        async with factory_of(Keeping, state=f"sqlite:///{tmp_path}/state.db") as factory:
            store = factory.registry.store()
            await store.set("a", b"1")
        return await store.get("a")  # it opens anew

    assert asyncio.run(use()) == b"1"
